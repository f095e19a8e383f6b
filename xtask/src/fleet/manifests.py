"""What `cargo xtask fleet manifests` asks of PyPI's packages. The first argument says what."""
import json
import sys

import yaml


def documents(path):
    with open(path) as file:
        return [document for document in yaml.safe_load_all(file) if document]


def validate(version, *paths):
    import kubernetes_validate

    for path in paths:
        for document in documents(path):
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except Exception as error:
                sys.exit(f"{path}: {document.get('kind')}: {error}")


def helm(chart, values):
    from helm_python.chart import Chart, lint

    values = json.loads(values)
    found = lint(chart, values, strict=True, namespace="tcptrace")
    # Severity 1: an icon is recommended.
    worse = [one for one in found["messages"] if one["severity"] > 1]
    if worse:
        sys.exit(f"helm lint: {worse}")
    with Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name="tcptrace", namespace="tcptrace")
    for path, text in rendered.items():
        if text.strip() and path.endswith(".yaml"):
            print(f"---\n# Source: {path}\n{text}")


def sbom(path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    with open(path) as file:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read())
    if error:
        sys.exit(str(error))


asked, *arguments = sys.argv[1:]
if asked == "json":
    print(json.dumps(documents(*arguments)))
else:
    {"validate": validate, "helm": helm, "sbom": sbom}[asked](*arguments)
