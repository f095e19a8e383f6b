// What Prometheus answers, as Grafana's data frames: one a series, or one table of all.
import { createDataFrame, FieldType } from "@grafana/data";

const VARIABLES = { instance: ".*" };

// Windows shorter by that factor: the run is minutes long, not hours.
const shortened = (query, factor) =>
  query.replace(/\[(\d+)m\]/g, (_, minutes) => `[${Math.round((minutes * 60) / factor)}s]`);

const filled = (query) => query.replace(/\$(\w+)/g, (all, name) => VARIABLES[name] ?? all);

const ask = async (path, parameters) => {
  const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== "success") throw new Error(`${parameters.query}: ${body.error}`);
  return body.data.result;
};

const legend = (format, labels) => {
  if (format) return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "");
  const { __name__: name = "", ...others } = labels;
  const pairs = Object.entries(others).map(([key, value]) => `${key}="${value}"`);
  return `${name}{${pairs.join(", ")}}`;
};

const series = (target, { metric, values }, step) => {
  const displayNameFromDS = legend(target.legendFormat, metric);
  return createDataFrame({
    refId: target.refId,
    name: displayNameFromDS,
    fields: [
      {
        name: "Time",
        type: FieldType.time,
        config: { interval: step * 1000 },
        values: values.map(([seconds]) => seconds * 1000),
      },
      {
        name: "Value",
        type: FieldType.number,
        labels: metric,
        config: { displayNameFromDS },
        values: values.map(([, value]) => Number(value)),
      },
    ],
  });
};

const table = (target, result) => {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name) => ({
    name,
    type: FieldType.string,
    config: { filterable: true },
    values: result.map(({ metric }) => metric[name] ?? ""),
  });
  const time = result.map(({ value }) => value[0] * 1000);
  const values = result.map(({ value }) => Number(value[1]));
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: time },
      ...labels.map(column),
      { name: "Value", type: FieldType.number, config: {}, values },
    ],
  });
};

// The frames of a panel.
export const frames = async (panel, { from, to, factor }) => {
  const step = Math.max(1, Math.round((to - from) / 600));
  const all = await Promise.all(
    (panel.targets ?? []).map(async (target) => {
      const query = shortened(filled(target.expr), factor);
      if (target.instant) {
        const result = await ask("query", { query, time: to });
        return result.length ? [table(target, result)] : [];
      }
      const result = await ask("query_range", { query, start: from, end: to, step });
      return result.map((one) => series(target, one, step));
    }),
  );
  return all.flat();
};
