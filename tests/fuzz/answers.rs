//! Answers of agents, of Prometheus and of collectors, over the network.

use hyper::{
    HeaderMap, StatusCode,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use tcptrace::{
    cli::explained_there,
    engine::{fleet::Fleet, update::Update},
    serve::otlp::answer::{CollectorAnswer, of_grpc, of_http},
    source::fleet::{agent, prometheus},
    view::{
        Clock, View,
        csv::{Columns, Csv},
        json::Json,
        table::Table,
        text::steers,
    },
};

/// A body, whosever it is; of a collector, behind headers.
pub fn answers(data: &[u8]) {
    if let Ok(leaking) = agent::read(data, "web7:9095") {
        shown(Fleet { leaking, hosts: 1, ..Fleet::default() });
    }
    let mut four = data.split(|b| *b == b'\n');
    let mut next = || four.next().unwrap_or(data);
    if let Ok(fleet) = prometheus::read([next(), next(), next(), next()]) {
        shown(fleet);
    }
    for is_page in [false, true] {
        let Ok(text) = explained_there(data, is_page) else { continue };
        assert_eq!(text.chars().find(|c| *c != '\n' && steers(*c)), None);
        for line in text.lines().filter(|_| !is_page) {
            serde_json::from_str::<serde_json::Value>(line).expect("an object a line");
        }
    }
    collector(data);
}

/// In every format nothing steers a terminal.
fn shown(fleet: Fleet) {
    let clock = || Clock::new(Timestamp::UNIX_EPOCH, 0, true);
    let update = Update::Fleet(Box::new(fleet));
    let (mut json, mut csv, mut table) = (Vec::new(), Vec::new(), Vec::new());
    let views: [Box<dyn View + '_>; 3] = [
        Box::new(Json::new(&mut json, clock())),
        Box::new(Csv::new(&mut csv, clock(), Columns::Fleet).expect("memory")),
        Box::new(Table::new(&mut table, clock(), 80)),
    ];
    for mut view in views {
        view.update(0, &update).expect("memory");
        view.flush().expect("memory");
    }
    for line in json.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        serde_json::from_slice::<serde_json::Value>(line).expect("JSON");
    }
    for text in [json, csv, table] {
        let text = super::without_styles(&String::from_utf8(text).expect("UTF-8"));
        assert_eq!(text.chars().find(|c| *c != '\n' && steers(*c)), None);
    }
}

/// A status, headers up to an empty line, trailers up to the next, a body.
fn collector(data: &[u8]) {
    let (status, rest) = data.split_at(data.len().min(3));
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    let mut lines = rest.split_inclusive(|b| *b == b'\n');
    let mut fields = || {
        let mut fields = HeaderMap::new();
        let mut size = 0;
        for line in lines.by_ref() {
            size += line.len();
            let line = line.trim_ascii();
            if line.is_empty() {
                break;
            }
            let mut halves = line.splitn(2, |b| *b == b':');
            let (name, value) = (halves.next(), halves.next().unwrap_or_default().trim_ascii());
            let name = name.and_then(|name| HeaderName::from_bytes(name).ok());
            if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                fields.append(name, value);
            }
        }
        (fields, size)
    };
    let ((headers, head), (trailers, tail)) = (fields(), fields());
    let body = Bytes::copy_from_slice(&rest[head + tail..]);
    let status = status.unwrap_or(StatusCode::OK);
    let answer = CollectorAnswer { status, headers, trailers, body };
    let _ = (of_http(&answer), of_grpc(&answer));
}
