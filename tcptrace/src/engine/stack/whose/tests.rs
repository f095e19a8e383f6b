use proptest::prelude::*;

use super::*;

fn of(kind: CodeKind, module: &str, main: bool, function: &str, file: &str) -> Code {
    let some = |text: &'static str| (!text.is_empty()).then_some(text);
    let leak = |text: &str| some(Box::leak(text.to_owned().into_boxed_str()));
    code(&CodePlace {
        kind,
        module: leak(module),
        main,
        function: leak(function),
        file: leak(file),
    })
}

#[test]
fn native_code() {
    use Code::{Library, Own, Runtime};
    for (module, main, function, file, expected) in [
        ("/usr/bin/server", true, "handle_request", "server.c", Own),
        ("/usr/bin/server", true, "_start", "", Library),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", false, "recv", "", Library),
        ("/lib/ld-musl-x86_64.so.1", false, "recv", "", Library),
        ("/opt/old/libc.so.6", false, "recv", "", Library),
        ("/opt/app/libfetch.so", false, "fetch", "", Own),
        ("[vdso]", false, "clock_gettime", "", Library),
        ("/srv/app", true, "std::sys::net::recv", "", Library),
        ("/srv/app", true, "<std::io::Lines<B> as core::iter::Iterator>::next", "", Library),
        ("/srv/app", true, "<app::Conn as tokio::io::AsyncRead>::poll_read", "", Own),
        ("/srv/app", true, "<&mut app::Conn as std::io::Read>::read", "", Own),
        (
            "/srv/app",
            true,
            "<alloc::boxed::Box<F> as core::ops::FnOnce<A>>::call_once",
            "",
            Library,
        ),
        ("/srv/app", true, "tokio::runtime::Runtime::block_on", "", Library),
        ("/srv/app", true, "standard::fetch", "", Own),
        ("/srv/app", true, "read", "/rustc/abc/library/std/src/io.rs", Library),
        ("/srv/app", true, "x::y", "/home/a/.cargo/registry/src/i/x-1.0.0/src/lib.rs", Library),
        ("/srv/app", true, "std::vector<int>::push_back", "/usr/include/c++/12/vector", Library),
        ("/usr/bin/python3.11", true, "_PyEval_EvalFrameDefault", "", Runtime),
        ("/usr/lib/libpython3.13.so.1.0", false, "_PyEval_EvalFrameDefault", "", Runtime),
        ("/usr/lib/jvm/x/lib/server/libjvm.so", false, "JavaThread::run", "", Runtime),
        ("/usr/bin/node", true, "uv__io_poll", "", Runtime),
        ("/usr/bin/nodeexporter", true, "main", "", Own),
        ("/usr/sbin/php-fpm8.2", true, "execute_ex", "", Runtime),
    ] {
        let found = of(CodeKind::Native, module, main, function, file);
        assert_eq!(found, expected, "{module} {function} {file}");
    }
}

#[test]
fn gos() {
    use Code::{Library, Own};
    for (function, file, expected) in [
        ("main.(*Crawler).fetch", "/src/main.go", Own),
        ("main.main.func1", "", Own),
        ("internal/poll.(*FD).Read", "", Library),
        ("net/http.(*conn).serve", "", Library),
        ("net.(*conn).Read", "", Library),
        ("runtime.goexit", "", Library),
        ("slices.Sort[go.shape.[]int]", "", Library),
        ("example.com/app/net.(*Pool).Get", "/src/net/pool.go", Own),
        ("net.example.com/app.f", "", Own),
        ("app/fetch.Get", "", Own),
        ("github.com/x/y.Get", "/root/go/pkg/mod/github.com/x/y@v1.2.3/y.go", Library),
        ("github.com/x/y.Get", "github.com/x/y@v1.2.3/y.go", Library),
        ("github.com/me/app.Get", "github.com/me/app/app.go", Own),
        ("golang.org/x/net/http2.(*Framer).ReadFrame", "", Library),
    ] {
        assert_eq!(of(CodeKind::Go, "/srv/app", true, function, file), expected, "{function}");
    }
    let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    assert_eq!(of(CodeKind::Go, libc, false, "recv", ""), Library);
}

#[test]
fn scripts() {
    use Code::{Library, Own, Runtime, Unknown};
    for (kind, function, file, expected) in [
        (CodeKind::Python, "fetch", "/app/crawler.py", Own),
        (CodeKind::Python, "fetch", "crawler.py", Own),
        (CodeKind::Python, "readinto", "/usr/lib/python3.11/socket.py", Library),
        (
            CodeKind::Python,
            "readinto",
            "/root/.pyenv/versions/3.13.0/lib/python3.13/socket.py",
            Library,
        ),
        (CodeKind::Python, "readinto", "/opt/lib/python3.13t/socket.py", Library),
        (
            CodeKind::Python,
            "get",
            "/app/venv/lib/python3.11/site-packages/requests/api.py",
            Library,
        ),
        (CodeKind::Python, "get", "/usr/lib/python3/dist-packages/requests/api.py", Library),
        (CodeKind::Python, "f", "<frozen importlib._bootstrap>", Library),
        (CodeKind::Python, "f", "<string>", Own),
        (CodeKind::Python, "f", "/app/lib/pythonic/x.py", Own),
        (CodeKind::Node, "fetch", "/app/crawler.js", Own),
        (CodeKind::Node, "get", "/app/node_modules/axios/index.js", Library),
        (CodeKind::Node, "onread", "node:internal/stream_base_commons", Library),
        (CodeKind::Java, "com.foo.Crawler.fetch", "", Own),
        (CodeKind::Java, "java.net.Socket.read", "", Library),
        (CodeKind::Java, "javax.net.ssl.SSLSocket.read", "", Library),
        (CodeKind::Java, "javafoo.Main.main", "", Own),
        (CodeKind::Java, "sun.nio.ch.NioSocketImpl.read", "", Library),
        (CodeKind::Machinery, "Interpreter", "", Runtime),
        (CodeKind::Made, "x", "", Unknown),
    ] {
        assert_eq!(of(kind, "", false, function, file), expected, "{function} {file}");
    }
}

#[test]
fn where_threads_begin() {
    assert!(is_first("_start") && is_first("start_thread") && is_first("runtime.goexit"));
    assert!(!is_first("main") && !is_first("start") && !is_first(""));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        kind in prop_oneof![
            Just(CodeKind::Native), Just(CodeKind::Go), Just(CodeKind::Java), Just(CodeKind::Node),
            Just(CodeKind::Python), Just(CodeKind::Made),
        ],
        module in "\\PC{0,8}(/lib/python)?\\PC{0,8}",
        main: bool,
        function in "[<&*]{0,2}\\PC{0,8}(::|\\.|/)?\\PC{0,8}",
        file in "\\PC{0,8}(/lib/python|@v)?\\PC{0,8}",
    ) {
        let place = CodePlace {
            kind, module: Some(&module), main, function: Some(&function), file: Some(&file),
        };
        let found = code(&place);
        // No name makes a script's function the machine's, nor unknown what has a name.
        if !matches!(kind, CodeKind::Native | CodeKind::Go) {
            prop_assert_ne!(found, Code::Runtime);
        }
        prop_assert_eq!(found == Code::Unknown, kind == CodeKind::Made);
    }

    #[test]
    fn what_is_below_an_app_is_its_own(name in "[a-z_]{1,12}") {
        let file = format!("/app/{name}.py");
        let place = CodePlace {
            kind: CodeKind::Python,
            module: None,
            main: false,
            function: Some(&name),
            file: Some(&file),
        };
        prop_assert_eq!(code(&place), Code::Own);
    }
}
