//! The command line: one file a case, with arguments, status and output.

#[test]
fn commands() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .env("LANG", "C.UTF-8")
        .case("../tests/cmd/*.toml")
        .run();
}
