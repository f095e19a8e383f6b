//! Attributes, the resource, and what goes around log records and metrics.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use crate::view::text;

/// The version of the semantic conventions that names are taken from.
pub const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";
/// A longer text is cut, bytes.
pub const LONGEST: usize = 1_024;

/// A text that others may have chosen: nothing in it steers a terminal, and it has a bound.
#[must_use]
pub fn bounded(text: &str) -> String {
    text::bounded(text, LONGEST)
}

fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn pair(key: &str, of: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value(of), ..KeyValue::default() }
}

/// A text, cut where it is too long.
#[must_use]
pub fn text(key: &str, text: &str) -> KeyValue {
    pair(key, Value::StringValue(bounded(text)))
}

/// The same as the body of a record.
#[must_use]
pub fn body(text: &str) -> Option<AnyValue> {
    value(Value::StringValue(bounded(text)))
}

/// A number; what is more than the protocol's largest is that.
#[must_use]
pub fn number(key: &str, n: impl Into<u64>) -> KeyValue {
    pair(key, Value::IntValue(i64::try_from(n.into()).unwrap_or(i64::MAX)))
}

/// A length of time: in seconds, as the conventions have them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 ns, 104 days; then to the µs")]
pub fn seconds(key: &str, ns: u64) -> KeyValue {
    pair(key, Value::DoubleValue(ns as f64 / 1e9))
}

/// Whether something is so.
#[must_use]
pub fn flag(key: &str, is: bool) -> KeyValue {
    pair(key, Value::BoolValue(is))
}

/// Several texts.
#[must_use]
pub fn texts<'a>(key: &str, list: impl Iterator<Item = &'a str>) -> KeyValue {
    let one = |text: &str| AnyValue { value: Some(Value::StringValue(bounded(text))) };
    pair(key, Value::ArrayValue(ArrayValue { values: list.map(one).collect() }))
}

/// The host, as the resource names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedHost {
    /// What it calls itself.
    pub name: String,
    /// The machine's id, where it has one.
    pub id: Option<String>,
    /// What tells this agent from others, the same after a restart.
    pub instance: String,
}

/// What stands around all that is sent: who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

/// The numbers of fields, the same in logs and in metrics: a resource's entry in a request, a
/// scope's in that, and a record or metric in that.
const ENTRY: u32 = 1;
const SCOPE_ENTRY: u32 = 2;
const ITEM: u32 = 2;

impl Envelope {
    /// Of this agent.
    #[must_use]
    pub fn new(host: &NamedHost) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut attributes = vec![
            text("service.name", "tcptrace"),
            text("service.version", version),
            text("service.instance.id", &host.instance),
            text("host.name", &host.name),
            text("host.arch", arch),
            text("os.type", "linux"),
        ];
        attributes.extend(host.id.as_deref().map(|id| text("host.id", id)));
        let resource = Some(Resource { attributes, ..Resource::default() });
        let scope = Some(InstrumentationScope {
            name: "tcptrace".to_owned(),
            version: version.to_owned(),
            ..InstrumentationScope::default()
        });
        let schema_url = SCHEMA.to_owned();
        let of_resource =
            ResourceLogs { resource, schema_url: schema_url.clone(), ..ResourceLogs::default() };
        let of_scope = ScopeLogs { scope, schema_url, ..ScopeLogs::default() };
        Self { resource: of_resource.encode_to_vec(), scope: of_scope.encode_to_vec() }
    }

    /// A request of what [`item`] made, one after the other.
    #[must_use]
    pub fn request(&self, items: &[u8]) -> Vec<u8> {
        let mut entry = self.resource.clone();
        head(&mut entry, SCOPE_ENTRY, self.scope.len() + items.len());
        let mut out = Vec::with_capacity(entry.len() + self.scope.len() + items.len() + 8);
        head(&mut out, ENTRY, entry.len() + self.scope.len() + items.len());
        for part in [&entry[..], &self.scope, items] {
            out.extend_from_slice(part);
        }
        out
    }
}

fn head(out: &mut Vec<u8>, field: u32, length: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

/// Appends a log record or a metric as it stands in a request.
pub fn item(out: &mut Vec<u8>, message: &impl Message) {
    let length = message.encoded_len();
    out.reserve(length + 8);
    head(out, ITEM, length);
    // A vector has room for all that there is memory for.
    let _ = message.encode(out);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::{logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest},
        logs::v1::LogRecord,
        metrics::v1::Metric,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::view::text::steers;

    fn host() -> NamedHost {
        NamedHost { name: "web7".into(), id: Some("abc".into()), instance: "x".into() }
    }

    proptest! {
        /// What is put together by hand is what the library reads.
        #[test]
        fn requests_are_what_the_protocol_says(names in proptest::collection::vec("\\PC*", 0..9)) {
            let (mut records, mut metrics) = (Vec::new(), Vec::new());
            for name in &names {
                item(&mut records, &LogRecord { event_name: name.clone(), ..LogRecord::default() });
                item(&mut metrics, &Metric { name: name.clone(), ..Metric::default() });
            }
            let envelope = Envelope::new(&host());
            let logs = ExportLogsServiceRequest::decode(&envelope.request(&records)[..])?;
            let [of] = &logs.resource_logs[..] else { panic!("{logs:?}") };
            prop_assert_eq!(&of.schema_url, SCHEMA);
            let resource = of.resource.as_ref().expect("a resource");
            prop_assert_eq!(resource.attributes.len(), 7);
            prop_assert_eq!(&resource.attributes[0], &text("service.name", "tcptrace"));
            let [scope] = &of.scope_logs[..] else { panic!("{logs:?}") };
            prop_assert_eq!(&scope.scope.as_ref().expect("a scope").name, "tcptrace");
            prop_assert!(scope.log_records.iter().map(|r| &r.event_name).eq(&names));
            let all = ExportMetricsServiceRequest::decode(&envelope.request(&metrics)[..])?;
            let of = &all.resource_metrics[0].scope_metrics[0];
            prop_assert_eq!((&*of.schema_url, of.metrics.len()), (SCHEMA, names.len()));
        }

        #[test]
        fn whatever_others_chose_is_harmless(chosen in any::<String>(), times in 1..200usize) {
            let told = bounded(&chosen.repeat(times));
            prop_assert!(told.len() <= LONGEST && !told.chars().any(steers));
        }
    }
}
