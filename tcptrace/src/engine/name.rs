//! What people call a process. An interpreter's command name says nothing: what it runs is in its
//! command line.

/// What is taken of a command line at the most, characters.
const LONGEST: usize = 40;

/// How an interpreter's options are read.
struct Options {
    /// Letters whose value is code: then nothing has a name.
    code: &'static str,
    /// Letters whose value is what it runs.
    runs: &'static str,
    /// Letters with a value that says nothing.
    takes: &'static str,
    /// The same, of long options, where the value is the next word.
    long: &'static [&'static str],
}

const PYTHON: Options =
    Options { code: "c", runs: "m", takes: "WXQ", long: &["--check-hash-based-pycs"] };
const NODE: Options = Options {
    code: "ep",
    runs: "",
    takes: "rC",
    long: &["--require", "--import", "--loader", "--experimental-loader", "--conditions"],
};
const PHP: Options = Options { code: "rBRE", runs: "fF", takes: "cdgz", long: &["--define"] };
const RUBY: Options = Options { code: "e", runs: "", takes: "IrCEKx", long: &["--require"] };
const PERL: Options = Options { code: "eE", runs: "", takes: "IMmCDix", long: &[] };
const SHELL: Options =
    Options { code: "c", runs: "", takes: "oO", long: &["--rcfile", "--init-file"] };

/// Long options of `java` whose value is the next word and says nothing.
const JAVA_TAKES: [&str; 13] = [
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--upgrade-module-path",
    "--add-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--limit-modules",
    "--patch-module",
    "--source",
];

/// The command name and what it runs (`java shop.jar`, `python3 gunicorn app:app`), for a process
/// whose command name alone is that of many others; `None`: the command name is all.
///
/// Of the arguments, only the word right after the script is told, and only where it looks like the
/// name of something: no option, no value, nothing with a digit. Those may be secret.
#[must_use]
pub fn name(comm: &str, command: &[String]) -> Option<String> {
    let first = command.first()?;
    // Node.js calls its first thread so.
    let comm = match comm {
        "MainThread" | "node-MainThread" => file_name(first),
        _ => comm,
    };
    let words: Vec<&str> = command[1..].iter().map(String::as_str).collect();
    let runs = match interpreter(comm)? {
        // A process that renames itself, as `php-fpm: pool www`.
        _ if first.contains(": ") => title(first),
        Interpreter::Java => java(&words).map(bounded),
        Interpreter::Other(options) => script(&options, &words),
    }?;
    Some(format!("{comm} {runs}"))
}

/// Whether a process with this command name is called by what it runs.
#[must_use]
pub fn is_generic(comm: &str) -> bool {
    matches!(comm, "MainThread" | "node-MainThread") || interpreter(comm).is_some()
}

enum Interpreter {
    Java,
    Other(Options),
}

fn interpreter(comm: &str) -> Option<Interpreter> {
    let version = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    Some(Interpreter::Other(match comm.trim_end_matches(version) {
        "java" => return Some(Interpreter::Java),
        "python" | "pypy" => PYTHON,
        "node" | "nodejs" | "bun" => NODE,
        "php" | "php-fpm" | "php-cgi" => PHP,
        "ruby" => RUBY,
        "perl" => PERL,
        "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" => SHELL,
        _ => return None,
    }))
}

/// What follows a process's own name in its title, as far as it names something.
fn title(text: &str) -> Option<String> {
    let (_, title) = text.split_once(": ")?;
    let words: Vec<&str> = title.split(' ').take_while(|word| is_name(word)).take(3).collect();
    (!words.is_empty()).then(|| bounded(&words.join(" ")))
}

/// The script or module, and the word after it.
fn script(options: &Options, words: &[&str]) -> Option<String> {
    let mut rest = words.iter();
    let script = loop {
        let word = *rest.next()?;
        if word == "--" {
            break *rest.next()?;
        }
        if word.starts_with("--") {
            if matches!(word, "--eval" | "--print" | "--run") {
                return None;
            }
            if options.long.contains(&word) {
                rest.next()?;
            }
            continue;
        }
        let Some(letters) = word.strip_prefix('-') else {
            // The value of an option that is not known here.
            if word.contains(char::is_alphabetic) {
                break word;
            }
            continue;
        };
        // Nothing but a dash: it reads the script from its standard input.
        if letters.is_empty() {
            return None;
        }
        let value = letters.char_indices().find_map(|(at, c)| {
            let known = [options.code, options.runs, options.takes];
            known.iter().any(|list| list.contains(c)).then(|| (c, &letters[at + c.len_utf8()..]))
        });
        match value {
            None => {}
            Some((c, _)) if options.code.contains(c) => return None,
            Some((c, "")) if options.runs.contains(c) => break *rest.next()?,
            Some((c, attached)) if options.runs.contains(c) => break attached,
            // Perl's are attached or not there.
            Some((c, "")) if !"MmCDix".contains(c) || options.code != PERL.code => {
                rest.next()?;
            }
            Some(_) => {}
        }
    };
    let script = file_name(script);
    if script.is_empty() {
        return None;
    }
    match rest.next() {
        Some(word) if is_name(word) && !word.contains(|c: char| c.is_ascii_digit()) => {
            Some(bounded(&format!("{script} {word}")))
        }
        _ => Some(bounded(script)),
    }
}

/// The jar, the module or the class.
fn java<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut rest = words.iter();
    loop {
        let word = *rest.next()?;
        match word {
            "-jar" => return rest.next().map(|jar| file_name(jar)),
            "-m" | "--module" => return rest.next().map(|module| class(module)),
            _ if JAVA_TAKES.contains(&word) => drop(rest.next()?),
            _ if word.starts_with(['-', '@']) => {}
            _ => return Some(class(word)),
        }
    }
}

/// A class by its full name, or where that is long by the end of it.
fn class(name: &str) -> &str {
    let short = || name.rsplit(['.', '/']).next().unwrap_or(name);
    if name.chars().count() > LONGEST { short() } else { name }
}

/// The last part of a path.
#[must_use]
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a word looks like a name: of a module, an application, a command.
fn is_name(word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
    word.len() <= LONGEST
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(part)
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

/// Leaves the program of a command line, as far as it is a word of its own: titles that programs
/// give themselves may hold anything.
pub fn program_only(command: &mut Vec<String>) {
    command.truncate(1);
    if let Some(program) = command.first_mut() {
        *program = program.split_whitespace().next().unwrap_or_default().to_owned();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(comm: &str, command: &str) -> String {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        name(comm, &words).unwrap_or_else(|| comm.to_owned())
    }

    #[test]
    fn what_interpreters_run() {
        for (comm, command, expected) in [
            ("python", "python /usr/bin/gunicorn app:app -w 4", "python gunicorn app:app"),
            ("python3.11", "/usr/bin/python3.11 -u /srv/leak.py 8080", "python3.11 leak.py"),
            ("python3", "python3 -m http.server 8000", "python3 http.server"),
            ("python3", "python3 -um celery worker", "python3 celery worker"),
            (
                "python3",
                "python3 -W ignore -X dev manage.py runserver",
                "python3 manage.py runserver",
            ),
            ("python3", "python3 -c import(os)", "python3"),
            ("python3", "python3 -", "python3"),
            ("java", "java -Xmx4g -Dpassword=x -jar /opt/shop.jar --secret", "java shop.jar"),
            ("java", "java -cp /a.jar:/b.jar -Dk=v com.shop.Main -x", "java com.shop.Main"),
            (
                "java",
                "java --add-opens java.base/x=ALL -m shop/com.shop.Main",
                "java shop/com.shop.Main",
            ),
            ("java", "java -version", "java"),
            ("node", "node --max-old-space-size=4096 /srv/server.js --token abc", "node server.js"),
            ("node", "node --require ./hook.js server.js", "node server.js"),
            ("node", "node --max-semi-space-size 64 server.js", "node server.js"),
            ("node", "node -e require(x)", "node"),
            ("MainThread", "/usr/bin/node server.js", "node server.js"),
            ("php-fpm8.2", "php-fpm: pool www", "php-fpm8.2 pool www"),
            ("php", "php -d memory_limit=1G artisan queue:work", "php artisan queue:work"),
            ("ruby", "ruby -I lib bin/rails server", "ruby rails server"),
            ("perl", "perl -w -MSocket /opt/pump.pl", "perl pump.pl"),
            ("perl", "perl -we print", "perl"),
            ("bash", "bash -euo pipefail /opt/sync.sh", "bash sync.sh"),
            ("sh", "sh -c curl", "sh"),
            ("bash", "-bash", "bash"),
            ("nginx", "nginx: worker process", "nginx"),
            ("pythonista", "pythonista x.py", "pythonista"),
        ] {
            assert_eq!(named(comm, command), expected, "{command}");
        }
        assert_eq!(name("java", &[]), None, "it hides its command line");
    }

    #[test]
    fn what_may_be_secret_is_not_told() {
        for command in [
            "python3 x.py --password s3cret",
            "python3 x.py s3cret",
            "python3 x.py user:pa/ss",
            "python3 x.py postgres://u:p@host/db",
            "python3 x.py -k secret",
        ] {
            assert_eq!(named("python3", command), "python3 x.py", "{command}");
        }
    }

    #[test]
    fn long_names_are_cut() {
        let long = "x".repeat(200);
        assert_eq!(named("node", &format!("node /{long}")).chars().count(), 5 + LONGEST);
        let class = format!("com.{long}.Main");
        assert_eq!(named("java", &format!("java {class}")), "java Main");
    }

    proptest! {
        #[test]
        fn any_command_line_is_bounded(
            comm in "(python3|java|node|php-fpm|ruby|perl|sh|MainThread|\\PC{0,15})",
            command in proptest::collection::vec("(-{0,2}[a-zA-Z]{0,3}|\\PC{0,60}|/?[a-z/]{0,90})", 0..6),
        ) {
            if let Some(name) = name(&comm, &command) {
                let first = command.first().map_or("", |first| file_name(first));
                let longest = comm.chars().count().max(first.chars().count());
                prop_assert!(name.chars().count() <= longest + 1 + LONGEST);
            }
        }

        #[test]
        fn values_of_options_are_not_told(
            comm in "(python3|java|node|php|ruby|perl|sh)",
            option in "--[a-z]{2,9}=",
            secret in "[0-9][A-Za-z0-9]{9,20}",
        ) {
            let command = [comm.clone(), "x.jar".into(), format!("{option}{secret}"), secret.clone()];
            prop_assert!(!name(&comm, &command).unwrap_or_default().contains(&secret));
        }
    }
}
