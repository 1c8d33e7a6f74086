//! Bugs that the simulation has to find, to show that its rules bite. Only builds with the feature `planted-bugs` can
//! have one; in all others `is` is a constant.

/// A bug that can be planted, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A record whose result is missing counts as delivered.
    MissingResultDelivers = 1,
    /// A record whose call ended without a result counts as delivered.
    UnknownDelivers,
    /// A record is sent although its deadline has passed.
    SendsExpired,
    /// A batch may be larger than the destination takes.
    BatchOverBytes,
    /// One call more than allowed may run.
    OneCallTooMany,
    /// A record of a failed call is neither retried nor settled.
    RetryVanishes,
    /// Throttling counts as an outage.
    ThrottlingOpensCircuit,
    /// A success does not close the circuit.
    CircuitStaysOpen,
    /// Calls that do not end never open the circuit.
    HangingIsPatience,
    /// A failure before the last success counts, too.
    CircuitRemembersTooMuch,
    /// Records that the disk did not take count as spooled.
    FailedSpoolKeeps,
    /// The answer comes with the first settlement.
    FirstAckAnswers,
    /// A refused record leaves the request's status as it was.
    RefusalForgotten,
    /// A record of a dead writer counts as delivered.
    LostDelivers,
    /// The permit of a request goes when its client does.
    PermitGoesWithClient,
    /// Requests are admitted whatever is pending.
    NoCapacity,
    /// The byte budget counts bodies, but not records.
    RecordsAreFree,
    /// The deadline of a request passes unnoticed.
    NoDeadline,
    /// Records with a client that waits are retried although the circuit is open.
    OpenCircuitRetries,
    /// A failing output sheds requests although it has a spool.
    SpoolingSheds,
    /// A request that is settled is not told.
    NobodyWoken,
    /// A failing output gets every request.
    ProbesWithoutLimit,
    /// A failing output gets no request.
    NoProbes,
    /// One failing writer of several counts as all of them.
    OneWriterFailsAll,
    /// Every record is best effort.
    NothingAwaited,
    /// The state of the circuit is taken only from acks that settle nothing.
    CircuitOfEmptyAcksOnly,
    /// The bounds of Retry-After do not hold.
    RetryAfterUnbounded,
    /// Events go to every output, whatever their routing says.
    RoutingIgnored,
    /// The settlement of a request whose client has gone is thrown away.
    LateAckIgnored,
    /// A writer with a spool does not try a destination again that has failed.
    SpoolNeverProbes,
    /// The records of a failing output do not go to its fallback.
    FallbackUnused,
    /// A record that a failing output has refused goes nowhere else.
    RefusalStays,
    /// A request does not wait for a record that another output has got.
    MovedIsForgotten,
    /// A group gives records to a member that fails.
    GroupKeepsFailing,
    /// A group gives records with one key to different members.
    GroupForgetsKeys,
    /// A request does not wait for a letter that found no room, which is all that is kept of its event.
    LetterForgotten,
    /// Every priority may fill all of the room.
    SharesIgnored,
    /// A request that nobody sends again is shed last of all, whatever its events are.
    UnrepeatableTakesAll,
}

impl Bug {
    /// Every bug, in declaration order.
    pub const ALL: [Bug; 38] = [
        Bug::MissingResultDelivers,
        Bug::UnknownDelivers,
        Bug::SendsExpired,
        Bug::BatchOverBytes,
        Bug::OneCallTooMany,
        Bug::RetryVanishes,
        Bug::ThrottlingOpensCircuit,
        Bug::CircuitStaysOpen,
        Bug::HangingIsPatience,
        Bug::CircuitRemembersTooMuch,
        Bug::FailedSpoolKeeps,
        Bug::FirstAckAnswers,
        Bug::RefusalForgotten,
        Bug::LostDelivers,
        Bug::PermitGoesWithClient,
        Bug::NoCapacity,
        Bug::RecordsAreFree,
        Bug::NoDeadline,
        Bug::OpenCircuitRetries,
        Bug::SpoolingSheds,
        Bug::NobodyWoken,
        Bug::ProbesWithoutLimit,
        Bug::NoProbes,
        Bug::OneWriterFailsAll,
        Bug::NothingAwaited,
        Bug::CircuitOfEmptyAcksOnly,
        Bug::RetryAfterUnbounded,
        Bug::RoutingIgnored,
        Bug::LateAckIgnored,
        Bug::SpoolNeverProbes,
        Bug::FallbackUnused,
        Bug::RefusalStays,
        Bug::MovedIsForgotten,
        Bug::GroupKeepsFailing,
        Bug::GroupForgetsKeys,
        Bug::LetterForgotten,
        Bug::SharesIgnored,
        Bug::UnrepeatableTakesAll,
    ];
}

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a bug in this process in place of the last one, or none.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    let number = bug.map_or(0, |bug| bug as u8);
    PLANTED.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "planted-bugs")]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
