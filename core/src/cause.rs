//! Why a record was not delivered.

/// Why a record was not delivered, as far as known. The label is its name in metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The destination throttled the call or the record.
    Throttled,
    /// The destination reported a failure, or could not be reached.
    Unavailable,
    /// The call ended without a readable result for this record: it may be stored. The only legitimate
    /// source of duplicates.
    Unknown,
    /// Credentials or permissions do not allow the call.
    Denied,
    /// The stream, topic, bucket or directory does not exist.
    NotFound,
    /// The record is over the destination's limit.
    TooLarge,
    /// The destination rejected the record or the call as invalid.
    Invalid,
    /// No space left on the device.
    NoSpace,
    /// Its deadline passed before a call confirmed it.
    Expired,
    /// The process stopped before a call confirmed it.
    Shutdown,
    /// Its ticket was dropped unsettled: a defect in Sluice, never a destination's result.
    Lost,
}

impl Cause {
    /// Every cause, in declaration order.
    pub const ALL: [Cause; 11] = [
        Cause::Throttled,
        Cause::Unavailable,
        Cause::Unknown,
        Cause::Denied,
        Cause::NotFound,
        Cause::TooLarge,
        Cause::Invalid,
        Cause::NoSpace,
        Cause::Expired,
        Cause::Shutdown,
        Cause::Lost,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Cause::Throttled => "throttled",
            Cause::Unavailable => "unavailable",
            Cause::Unknown => "unknown",
            Cause::Denied => "denied",
            Cause::NotFound => "not_found",
            Cause::TooLarge => "too_large",
            Cause::Invalid => "invalid",
            Cause::NoSpace => "no_space",
            Cause::Expired => "expired",
            Cause::Shutdown => "shutdown",
            Cause::Lost => "lost",
        }
    }
}
