//! Why a record was not delivered.

/// Why a record was not delivered, as far as it is known. The label is its name in metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The destination asked for less.
    Throttled,
    /// The destination answered that it failed, or could not be reached at all.
    Unavailable,
    /// The call ended without a readable word on this record: it may be stored. The one legal
    /// source of duplicates.
    Unknown,
    /// Credentials or permissions do not allow the call.
    Denied,
    /// The stream, topic, bucket or directory does not exist.
    NotFound,
    /// The record is over the destination's limit.
    TooLarge,
    /// The destination called the record or the call invalid.
    Invalid,
    /// No space left on the device.
    NoSpace,
    /// Its deadline passed before a call confirmed it.
    Expired,
    /// The process stopped before a call confirmed it.
    Shutdown,
    /// Its ticket was dropped unsettled: a defect in Sluice, never a destination's word.
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
