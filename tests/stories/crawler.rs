//! The crawler that never releases what it fetched: the server closes, CLOSE_WAIT is the client's.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    evidence::{Scene, by_queue, count_by},
    service::Service,
    tests,
    tracer::holder_pids,
};

tests![python_requests, node_http, php_streams];

/// The pages of `pages.conf`: nothing is there, each says 404.
const SMALL: &str = "127.0.0.1:8404";
const IDLE: &str = "127.0.0.1:8405";
const KIB_80: &str = "127.0.0.1:8406";
const KIB_140: &str = "127.0.0.1:8407";

/// nginx with those pages.
fn pages(scene: &Scene) -> (Service, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let page = |name: &str, kib: usize| {
        fs::create_dir_all(dir.path().join("pages")).expect("a directory of our own");
        fs::write(Path::new(dir.path()).join("pages").join(name), "x".repeat(kib * 1024))
            .expect("a page");
    };
    page("80k.html", 80);
    page("140k.html", 140);
    let mut nginx = Service::nginx(&scene.ns, "pages.conf", dir.path());
    nginx.listens(8404);
    (nginx, dir)
}

/// All are the crawler's, as a client; `verdict` gives what is expected by page.
fn check(
    records: &[Value],
    crawler: &Service,
    pages: &[(&str, usize)],
    verdict: impl Fn(&str, &Value) -> &'static str,
) {
    let expected = pages.iter().map(|(page, count)| ((*page).to_owned(), *count)).collect();
    assert_eq!(count_by(records, "remote"), expected);
    for r in records {
        assert_eq!(r["verdict"], verdict(r["remote"].as_str().expect("a remote"), r), "{r}");
        assert_eq!(r["role"], "client", "{r}");
        assert_eq!(r["holder_source"], "fd-table");
        assert_eq!(holder_pids(r), [u64::from(crawler.pid())]);
    }
}

/// `stream=True` and no body read: urllib3 waits for that before it gives the connection back.
fn python_requests() {
    let mut scene = Scene::new();
    let _nginx = pages(&scene);
    let mut crawler = Service::script(&scene.ns, "crawler.py", &[]);
    for page in [SMALL, SMALL, SMALL, IDLE, IDLE, KIB_80] {
        crawler.does(&format!("http://{page}/missing"));
    }
    scene.leaks(6, |records| {
        check(records, &crawler, &[(SMALL, 3), (IDLE, 2), (KIB_80, 1)], |page, r| match page {
            // One recv() of 8 KiB brings head and page, and the FIN if that is there by then.
            SMALL => by_queue(r),
            // The FIN comes a second after that recv().
            IDLE => "unread-fin",
            // What doesn't fit into that recv() stays.
            _ => "unread-data",
        });
    });
    scene.ends_with(6);
}

/// Node reads ahead, and closes by itself once it has seen the end: small pages do not leak. From a
/// long page it stops reading when its buffers are full.
fn node_http() {
    let mut scene = Scene::new();
    let _nginx = pages(&scene);
    let mut crawler = Service::script(&scene.ns, "crawler.js", &[]);
    for page in [SMALL, KIB_140, SMALL, KIB_140] {
        crawler.does(&format!("http://{page}/missing"));
        if page == SMALL {
            crawler.says("closed");
        }
    }
    scene.leaks(2, |records| check(records, &crawler, &[(KIB_140, 2)], |_, _| "unread-data"));
    scene.ends_with(2);
}

fn php_streams() {
    let mut scene = Scene::new();
    let _nginx = pages(&scene);
    let mut crawler = Service::script(&scene.ns, "crawler.php", &[]);
    for told in
        [("open", SMALL), ("open", SMALL), ("socket", IDLE), ("open", KIB_80), ("read", KIB_140)]
    {
        crawler.does(&format!("{} http://{}/missing", told.0, told.1));
    }
    scene.leaks(5, |records| {
        check(records, &crawler, &[(SMALL, 2), (IDLE, 1), (KIB_80, 1), (KIB_140, 1)], |page, r| {
            match page {
                // As with Python, the recv() of 8 KiB may or may not bring the FIN.
                SMALL => by_queue(r),
                // The page was read, and then the server closed.
                IDLE => "unread-fin",
                // What doesn't fit into that recv() stays.
                KIB_80 => "unread-data",
                // Read to its end, the stream is open until fclose() or its last reference is gone.
                _ => "eof-not-closed",
            }
        });
    });
    scene.ends_with(5);
}
