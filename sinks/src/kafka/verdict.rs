//! The one table from Kafka's and librdkafka's errors to causes. Errors that librdkafka considers retriable
//! have been retried before they get here.

use rdkafka::error::RDKafkaErrorCode as Code;
use sluice_core::cause::Cause;
use sluice_core::record::RecordResult;

/// The result of a record without a delivery report.
pub(super) const NO_REPORT: Cause = Cause::Unknown;

/// The result of a record whose delivery report has this error. `alone`: its call had no other record;
/// `fits`: the topic has accepted one as large before.
pub(super) fn of_report(code: Code, alone: bool, fits: bool) -> RecordResult {
    match (cause(code), alone, fits) {
        // Brokers report this for a batch, in which librdkafka may have combined several calls. Sending each
        // record alone shows which one it was, among those of a size that has never been accepted.
        (Cause::TooLarge, false, _) => RecordResult::Retry(Cause::Invalid),
        (Cause::TooLarge, true, true) => RecordResult::Retry(Cause::Unavailable),
        (Cause::TooLarge, true, false) => RecordResult::Refused(Cause::TooLarge),
        (cause, _, _) => RecordResult::Retry(cause),
    }
}

/// The result of a record that librdkafka did not accept: nothing was sent.
pub(super) fn of_refusal(code: Code) -> RecordResult {
    match cause(code) {
        Cause::TooLarge => RecordResult::Refused(Cause::TooLarge),
        Cause::Unknown => RecordResult::Retry(Cause::Unavailable),
        cause => RecordResult::Retry(cause),
    }
}

/// The cause behind a connection error, if it is one.
pub(super) fn of_connection(code: Code, text: &str) -> Option<Cause> {
    match (cause(code), code) {
        // A broker rejects our certificate with a TLS alert, after the handshake. That we reject the broker's is an error
        // of TLS, and now and then, by librdkafka's own race, one of the connection.
        (_, Code::BrokerTransportFailure) if is_tls_alert(text) || is_untrusted(text) => {
            Some(Cause::Denied)
        }
        (
            _,
            Code::BrokerTransportFailure
            | Code::NetworkException
            | Code::OperationTimedOut
            | Code::RequestTimedOut,
        ) => Some(Cause::Unavailable),
        (cause @ (Cause::Denied | Cause::Unavailable), _) => Some(cause),
        _ => None,
    }
}

/// OpenSSL's text for an alert; a plain disconnect has another.
fn is_tls_alert(text: &str) -> bool {
    text.contains("SSL routines") && text.contains(" alert ")
}

/// OpenSSL's text where the broker's certificate is not to be trusted.
fn is_untrusted(text: &str) -> bool {
    text.contains("SSL routines") && text.contains("certificate verify failed")
}

/// Unlisted errors may have left the record stored, and are [`Cause::Unknown`].
pub(super) fn cause(code: Code) -> Cause {
    match code {
        Code::QueueFull | Code::ThrottlingQuotaExceeded => Cause::Throttled,
        // The broker did not append, or the connection was never established.
        Code::AllBrokersDown
        | Code::BrokerNotAvailable
        | Code::ISRInsufficient
        | Code::KafkaStorageError
        | Code::LeaderNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotLeaderForPartition
        | Code::PurgeQueue
        | Code::Resolve
        | Code::UnsupportedCompressionType
        | Code::UnsupportedVersion => Cause::Unavailable,
        Code::InvalidTopic
        | Code::UnknownPartition
        | Code::UnknownTopic
        | Code::UnknownTopicId
        | Code::UnknownTopicOrPartition => Cause::NotFound,
        Code::Authentication
        | Code::ClusterAuthorizationFailed
        | Code::IllegalSASLState
        | Code::SaslAuthenticationFailed
        | Code::SSL
        | Code::TopicAuthorizationFailed
        | Code::UnsupportedSASLMechanism => Cause::Denied,
        Code::InvalidMessageSize | Code::MessageBatchTooLarge | Code::MessageSizeTooLarge => {
            Cause::TooLarge
        }
        Code::InvalidRecord | Code::InvalidTimestamp | Code::PolicyViolation => Cause::Invalid,
        _ => Cause::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possibly_stored_messages_are_unknown() {
        for code in [
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::NetworkException,
            Code::BrokerTransportFailure,
            Code::NotEnoughReplicasAfterAppend,
            Code::PurgeInflight,
            Code::Fatal,
            Code::OutOfOrderSequenceNumber,
            Code::Unknown,
        ] {
            let unknown = RecordResult::Retry(Cause::Unknown);
            for (alone, fits) in [(true, true), (true, false), (false, true), (false, false)] {
                assert_eq!(of_report(code, alone, fits), unknown, "{code}");
            }
        }
    }

    #[test]
    fn a_too_large_batch_refuses_only_lone_records() {
        let result = |alone, fits| of_report(Code::MessageSizeTooLarge, alone, fits);
        assert_eq!(result(false, true), RecordResult::Retry(Cause::Invalid));
        assert_eq!(result(false, false), RecordResult::Retry(Cause::Invalid));
        assert_eq!(result(true, true), RecordResult::Retry(Cause::Unavailable));
        assert_eq!(result(true, false), RecordResult::Refused(Cause::TooLarge));
    }

    #[test]
    fn connection_errors_have_causes_and_others_none() {
        for (code, text, expected) in [
            (
                Code::BrokerTransportFailure,
                "Connection refused",
                Some(Cause::Unavailable),
            ),
            (
                Code::BrokerTransportFailure,
                "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required",
                Some(Cause::Denied),
            ),
            (
                Code::BrokerTransportFailure,
                "Receive failed: error:0A000126:SSL routines::unexpected eof while reading",
                Some(Cause::Unavailable),
            ),
            (
                Code::BrokerTransportFailure,
                "error:0A000086:SSL routines::certificate verify failed (after 2ms in state SSL_HANDSHAKE)",
                Some(Cause::Denied),
            ),
            (
                Code::AllBrokersDown,
                "2/2 brokers are down",
                Some(Cause::Unavailable),
            ),
            (Code::Resolve, "Failed to resolve", Some(Cause::Unavailable)),
            (
                Code::Authentication,
                "SASL authentication error",
                Some(Cause::Denied),
            ),
            (Code::SSL, "certificate verify failed", Some(Cause::Denied)),
            (Code::Fatal, "fatal", None),
            (Code::UnknownTopicOrPartition, "clicks", None),
            (Code::Unknown, "", None),
        ] {
            assert_eq!(of_connection(code, text), expected, "{code} {text}");
        }
    }

    #[test]
    fn what_librdkafka_did_not_take_is_not_stored() {
        for (code, cause) in [
            (Code::QueueFull, Cause::Throttled),
            (Code::Fatal, Cause::Unavailable),
            (Code::UnknownTopic, Cause::NotFound),
        ] {
            assert_eq!(of_refusal(code), RecordResult::Retry(cause), "{code}");
        }
    }
}
