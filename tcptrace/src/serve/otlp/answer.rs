//! What a collector's answer means: taken, taken in part, try again, or never. By the OTLP
//! specification (Failures) and gRPC's status codes. All of it may be anything.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hyper::{HeaderMap, StatusCode, body::Bytes, header::RETRY_AFTER};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct CollectorAnswer {
    /// HTTP's status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// What came behind the body.
    pub trailers: HeaderMap,
    /// The body, as far as it was read.
    pub body: Bytes,
}

/// What becomes of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The collector has it.
    Taken {
        /// But for so many of its items.
        rejected: u64,
        /// What it says of that.
        said: String,
    },
    /// It may be taken later.
    Again {
        /// Not before this has passed.
        after: Option<Duration>,
        /// What was wrong.
        why: String,
    },
    /// It won't be taken, however often it is sent.
    Refused {
        /// What was wrong.
        why: String,
    },
}

/// What an answer over HTTP means.
#[must_use]
pub fn of_http(answer: &CollectorAnswer) -> Delivery {
    let CollectorAnswer { status, headers, body, .. } = answer;
    if status.is_success() {
        return taken(body);
    }
    let said = GrpcStatus::decode(&body[..]).map(|status| status.message).unwrap_or_default();
    let why = format!("it answers {status}{}", quoted(&said));
    if !matches!(status.as_u16(), 429 | 502..=504) {
        return Delivery::Refused { why };
    }
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Delivery::Again { after: after.map(Duration::from_secs), why }
}

/// What an answer over gRPC means.
#[must_use]
pub fn of_grpc(answer: &CollectorAnswer) -> Delivery {
    let CollectorAnswer { status, headers, trailers, body } = answer;
    let header = |name: &str| trailers.get(name).or_else(|| headers.get(name));
    let code = header("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let Some(code) = code else {
        let why = format!("it answers {status} and no grpc-status: is it a collector's gRPC port?");
        // As gRPC's specification takes HTTP's statuses.
        return match status.as_u16() {
            429 | 502..=504 => Delivery::Again { after: None, why },
            _ => Delivery::Refused { why },
        };
    };
    if code == 0 {
        return taken(body.get(5..).unwrap_or_default());
    }
    let said = header("grpc-message").map_or("", |value| value.to_str().unwrap_or_default());
    let why = format!("it answers {}{}", code_name(code), quoted(said));
    let after = header("grpc-status-details-bin").and_then(|value| asked(value.as_bytes()));
    // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS; and
    // RESOURCE_EXHAUSTED where it says when there is room again.
    let again = matches!(code, 1 | 4 | 10 | 11 | 14 | 15) || code == 8 && after.is_some();
    if again { Delivery::Again { after, why } } else { Delivery::Refused { why } }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

/// Answers for logs and for metrics have the same fields.
fn taken(body: &[u8]) -> Delivery {
    let partial = ExportLogsServiceResponse::decode(body).ok().and_then(|it| it.partial_success);
    let partial = partial.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0);
    Delivery::Taken { rejected, said: partial.error_message }
}

/// `google.rpc.Status`, of google/rpc/status.proto.
#[derive(Clone, PartialEq, Message)]
struct GrpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`, of google/rpc/error_details.proto.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Span>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// How long a collector wants to be left alone.
fn asked(details: &[u8]) -> Option<Duration> {
    // With or without padding, says gRPC.
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, config).decode(details).ok()?;
    let status = GrpcStatus::decode(&bytes[..]).ok()?;
    let info =
        status.details.into_iter().find(|d| d.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&info.value[..]).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    Some(Duration::new(seconds, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}

fn code_name(code: u32) -> String {
    let names = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|code| names.get(code));
    name.map_or_else(|| format!("gRPC status {code}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn http(status: u16, retry_after: Option<&'static str>) -> Delivery {
        let mut answer = CollectorAnswer {
            status: StatusCode::from_u16(status).expect("a status"),
            ..CollectorAnswer::default()
        };
        if let Some(value) = retry_after {
            answer.headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        }
        of_http(&answer)
    }

    fn grpc(code: u32, details: Option<&str>) -> Delivery {
        let mut answer = CollectorAnswer::default();
        answer.trailers.insert("grpc-status", HeaderValue::from(code));
        if let Some(details) = details {
            let value = HeaderValue::from_str(details).expect("a header");
            answer.trailers.insert("grpc-status-details-bin", value);
        }
        of_grpc(&answer)
    }

    #[test]
    fn what_is_tried_again() {
        let again = |outcome: &Delivery| matches!(outcome, Delivery::Again { .. });
        let retryable: Vec<u16> = (300..600).filter(|s| again(&http(*s, None))).collect();
        assert_eq!(retryable, [429, 502, 503, 504], "by the specification");
        let retryable: Vec<u32> = (0..20).filter(|code| again(&grpc(*code, None))).collect();
        assert_eq!(retryable, [1, 4, 10, 11, 14, 15]);
        let Delivery::Again { after, why } = http(503, Some("7")) else { panic!("it is") };
        assert_eq!(
            (after, &*why),
            (Some(Duration::from_secs(7)), "it answers 503 Service Unavailable")
        );
        let Delivery::Again { after, .. } = http(503, Some("Fri, 31 Dec 1999 23:59:59 GMT")) else {
            panic!("it is")
        };
        assert_eq!(after, None);
        let info = RetryInfo { retry_delay: Some(Span { seconds: 2, nanos: 500_000_000 }) };
        let detail = Detail {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        let status = GrpcStatus { code: 8, message: String::new(), details: vec![detail] };
        let padded = base64::engine::general_purpose::STANDARD.encode(status.encode_to_vec());
        for details in [&*padded, padded.trim_end_matches('=')] {
            let Delivery::Again { after, why } = grpc(8, Some(details)) else { panic!("it is") };
            assert_eq!(
                (after, &*why),
                (Some(Duration::from_millis(2_500)), "it answers RESOURCE_EXHAUSTED")
            );
        }
        assert!(
            matches!(of_grpc(&CollectorAnswer::default()), Delivery::Refused { .. }),
            "no gRPC"
        );
    }

    #[test]
    fn what_is_taken_in_part() {
        let partial = ExportLogsPartialSuccess {
            rejected_log_records: 3,
            error_message: "too old".to_owned(),
        };
        let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let expected = Delivery::Taken { rejected: 3, said: "too old".to_owned() };
        let answer = CollectorAnswer { body: body.clone().into(), ..CollectorAnswer::default() };
        assert_eq!(of_http(&answer), expected);
        let framed = [&[0, 0, 0, 0, body.len() as u8][..], &body].concat();
        let mut answer = CollectorAnswer { body: framed.into(), ..CollectorAnswer::default() };
        answer.trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(of_grpc(&answer), expected);
    }

    proptest! {
        #[test]
        fn whatever_it_answers(
            status in 100..1000u16,
            body in vec(any::<u8>(), 0..200),
            headers in vec((0..4usize, vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let names = ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"];
            let status = StatusCode::from_u16(status)?;
            let body = body.into();
            let mut answer = CollectorAnswer { status, body, ..CollectorAnswer::default() };
            for (n, value) in headers {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    answer.trailers.insert(HeaderName::from_static(names[n]), value.clone());
                    answer.headers.insert(HeaderName::from_static(names[n]), value);
                }
            }
            let _ = (of_http(&answer), of_grpc(&answer));
        }
    }
}
