//! SHELL 1: from a request's head to its answer, on one core.
//!
//! ```text
//!  head -> endpoint, method, codings | body -> byte budget -> pipeline (large bodies: on another thread)
//!       -> intake: room, circuits, tickets -> outputs -> wait for the acks -> verdict -> dialect
//! ```
//!
//! Decides only the order of these steps. `core::pipeline` turns bodies into records, `core::intake` knows
//! whether they are taken and when the request is settled, and a dialect phrases the response.

mod head;
mod limits;
mod request;
mod waiting;

pub use head::{DialectAnswer, Route, WhichPlan};
pub use limits::{AckSettings, IngestLimits};

use self::request::{Order, OwnedRequest, context_of};
use self::waiting::{HandedOver, Waiting, in_body};
use crate::admit::Admit;
use crate::dead_letters::Limiting;
use crate::dialect::{self, Endpoint, Paths};
use crate::http::{
    AddressPolicy, Admitted, Answer, Body, Handler, Head, HttpLimits, Ignored, Known,
};
use crate::offload::{Full, Offload};
use crate::outputs::Outputs;
use crate::runtime::context::WorkerContext;
use crate::verdict::Verdict;
use bytes::Bytes;
use sluice_core::ack::{AckQueue, RequestKey};
use sluice_core::budget::Permit;
use sluice_core::inflate::{Codings, looks_like_events};
use sluice_core::intake::{
    Intake, IntakeSettings, OutputRule, Resolution, RetryAfter, Shed, ShedReason,
};
use sluice_core::plan::{Mode, Plan};
use sluice_core::prepared::Prepared;
use sluice_core::priority::Priority;
use sluice_core::privacy::{AddressRule, Shown};
use sluice_core::reject::Reject;
use sluice_core::request::query_as_object;
use sluice_core::sent::SentBody;
use sluice_core::stats::{EndpointLabel, WorkerStats};
use sluice_core::time::Mono;
use sluice_sinks::sink::Sink;
use std::borrow::Cow;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::Poll;
use std::time::Duration;
use tracing::warn;

/// Warns once per process: where balancer and setting disagree, every request is affected.
static UNTRUSTED_WARNING: Once = Once::new();

/// A body of at most this many bytes, as sent and unpacked, is prepared on the core that read it: the most
/// expensive JSON of that size takes a third of a millisecond. A larger one goes to another thread.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The same for a packed body, as sent: decoders can be made to do more work per byte than the scanner.
const INLINE_PACKED_BYTES_MAX: usize = 16 << 10;

/// Settings shared by the cores.
#[derive(Debug)]
pub struct IngestSettings {
    /// Paths of the endpoints.
    pub paths: Paths,
    /// How much of X-Forwarded-For is taken.
    pub addresses: AddressPolicy,
    /// What logs show of addresses.
    pub logged_addresses: AddressRule,
    /// Which requests for events are admitted.
    pub admit: Admit,
    /// How a request of [`Endpoint::Collect`] becomes a record.
    pub collect: Plan,
    /// How a body of [`Endpoint::Events`] becomes records.
    pub events: Plan,
    /// How a request of [`Endpoint::Pixel`] becomes a record.
    pub pixel: Plan,
    /// Which outputs bound events and letters.
    pub limiting: Limiting,
    /// Bytes of a body as it is sent, at most.
    pub body_bytes_max: usize,
    /// The longest time from the end of the head to the response: a slow body leaves less time for the acks, so
    /// that the client is still waiting.
    pub answer_within: Duration,
    /// What is taken, and for how long; each core has its own home among the writers of an output.
    pub intake: IntakeSettings,
}

impl IngestSettings {
    /// The rules of one core: of several writers, cores take turns.
    fn intake_of(&self, core: usize) -> IntakeSettings {
        let home = |rule: &OutputRule| OutputRule {
            home: u16::try_from(core % usize::from(rule.writers.max(1))).unwrap_or(0),
            ..*rule
        };
        IntakeSettings {
            outputs: self.intake.outputs.iter().map(home).collect(),
            ..self.intake.clone()
        }
    }
}

/// One core's ingest.
pub struct Ingest {
    settings: Arc<IngestSettings>,
    /// Empty once the core has ended: a sink finishes its work when its last owner drops it.
    sinks: RefCell<Vec<Arc<dyn Sink>>>,
    outputs: Rc<Outputs>,
    port: &'static AckQueue,
    intake: Rc<RefCell<Intake>>,
    context: Rc<WorkerContext>,
    offload: Arc<Offload>,
    stats: Arc<WorkerStats>,
    /// Emptied buffers of earlier requests.
    prepared: RefCell<Vec<Prepared>>,
}

impl Ingest {
    /// The ingest of one core; `sinks`, in configuration order, give the record limits.
    #[must_use]
    pub fn new(
        settings: Arc<IngestSettings>,
        sinks: Vec<Arc<dyn Sink>>,
        outputs: Rc<Outputs>,
        offload: Arc<Offload>,
        context: Rc<WorkerContext>,
    ) -> Self {
        let port = AckQueue::leak();
        let shares = settings.intake.shares;
        let unread = shares.of(Priority::Mid, context.budget.limit());
        context.budget.limit_unread(unread);
        let intake = Intake::new(port, settings.intake_of(context.index));
        Ingest {
            intake: Rc::new(RefCell::new(intake)),
            settings,
            sinks: RefCell::new(sinks),
            outputs,
            port,
            stats: Arc::clone(&context.stats),
            context,
            offload,
            prepared: RefCell::default(),
        }
    }

    /// Applies delivery results as they arrive. Spawn on the worker's core.
    pub fn apply_results(&self) -> impl Future<Output = ()> + 'static {
        let (port, intake) = (self.port, Rc::clone(&self.intake));
        let (context, outputs) = (Rc::clone(&self.context), Rc::clone(&self.outputs));
        poll_fn(move |cx| {
            while let Some(batch) = port.poll_recv(cx.waker()) {
                // For the requests that this wakes, too, which do not ask the clock themselves.
                let submit = |writer, record| outputs.submit(writer, record);
                intake.borrow_mut().settle(batch, context.now(), submit);
            }
            Poll::Pending
        })
    }

    /// Takes a request as far as its acks.
    fn take<'s>(
        &'s self,
        head: &Head<'_>,
        mut body: Body<'_>,
        codings: Codings,
        plan: WhichPlan,
    ) -> Taken<'s> {
        let length = body.as_slice().len();
        // A body that took memory while it arrived has its permit.
        let reserved = body.take_permit().or_else(|| self.reserve(head, length));
        let Some(permit) = reserved else {
            return Taken::Here(Err(self.over_budget()));
        };
        self.stats.body_bytes.add(length as u64);
        let forwarded_for = self.forwarded_for(head);
        let mut prepared = self.prepared.borrow_mut().pop().unwrap_or_default();
        let sent = SentBody {
            bytes: body.as_slice(),
            codings: &codings,
            sent_bytes: head.bytes() + length,
            inflated_bytes_max: INLINE_BYTES_MAX,
        };
        let order = Order {
            permit,
            answer_by: head.received_at() + self.settings.answer_within,
            plan,
            is_unrepeatable: self.is_unrepeatable(head),
        };
        let here = self.prepare_inline(head, forwarded_for.as_deref(), sent, plan, &mut prepared);
        if let Some(result) = here {
            return Taken::Here(self.submit(order, prepared, result));
        }
        // Boxed, so that requests prepared here do not carry its size.
        let away = self.prepare_away(
            head,
            forwarded_for,
            body.into_bytes(),
            codings,
            plan,
            prepared,
        );
        Taken::Away(Box::pin(async move {
            let (prepared, result) = away.await;
            let handed_over = self.submit(order, prepared, result);
            self.verdict(handed_over).await
        }))
    }

    fn reserve(&self, head: &Head<'_>, bytes: usize) -> Option<Permit> {
        let permit = self.context.budget.try_reserve(bytes as u64, head.source());
        if permit.is_none() {
            self.stats.shed_budget.increment();
        }
        permit
    }

    /// There is no memory for the request.
    fn over_budget(&self) -> Verdict {
        Verdict::RetryLater(self.intake.borrow().shed(ShedReason::Budget))
    }

    fn pixel<'s>(&'s self, head: &Head<'_>) -> Result<HandedOver<'s>, Verdict> {
        let forwarded_for = self.forwarded_for(head);
        let request = context_of(head, forwarded_for.as_deref(), WhichPlan::Pixel.endpoint());
        let privacy = self.settings.pixel.privacy.as_deref();
        let query = match (privacy, head.query()) {
            (Some(privacy), Some(query)) => {
                let (query, tally) = privacy.query(&request, query);
                self.stats.treated(&tally);
                Some(query)
            }
            (_, query) => query.map(Cow::Borrowed),
        };
        let event = query_as_object(query.as_deref()).ok_or(Verdict::GiveUp(Reject::NoEvents))?;
        let permit = self
            .reserve(head, event.len())
            .ok_or_else(|| self.over_budget())?;
        let mut prepared = self.prepared.borrow_mut().pop().unwrap_or_default();
        let (sent, plan) = (SentBody::from(&event), WhichPlan::Pixel);
        let result = self.run(head, forwarded_for.as_deref(), sent, plan, &mut prepared);
        let result = result.map_err(Verdict::GiveUp);
        let order = Order {
            permit,
            answer_by: head.received_at() + self.settings.answer_within,
            plan,
            is_unrepeatable: self.has_priorities(),
        };
        self.submit(order, prepared, result)
    }

    /// Turns a body into records here, unless that could take too long: `None` then.
    fn prepare_inline(
        &self,
        head: &Head<'_>,
        forwarded_for: Option<&[u8]>,
        sent: SentBody<'_>,
        plan: WhichPlan,
        prepared: &mut Prepared,
    ) -> Option<Result<(), Verdict>> {
        let settings = plan.of(&self.settings);
        let length = sent.bytes.len();
        let is_packed = !sent.codings.is_empty()
            || (settings.mode == Mode::Event && !looks_like_events(sent.bytes));
        let here_max = if is_packed {
            INLINE_PACKED_BYTES_MAX
        } else {
            INLINE_BYTES_MAX
        };
        if length > here_max {
            return None;
        }
        match self.run(head, forwarded_for, sent, plan, prepared) {
            // Too large for this thread only.
            Err(Reject::InflatedTooLarge {
                limit: INLINE_BYTES_MAX,
            }) if settings.inflated_limit(length) > INLINE_BYTES_MAX => None,
            result => Some(result.map_err(Verdict::GiveUp)),
        }
    }

    /// Turns a body into records on another thread.
    fn prepare_away(
        &self,
        head: &Head<'_>,
        forwarded_for: Option<Cow<'_, [u8]>>,
        bytes: Bytes,
        codings: Codings,
        plan: WhichPlan,
        mut prepared: Prepared,
    ) -> impl Future<Output = (Prepared, Result<(), Verdict>)> + use<> {
        self.stats.bodies_offloaded.increment();
        let request = OwnedRequest {
            method: head.method().to_owned(),
            uri: head.path_and_query().to_owned(),
            path_bytes: head.path().len(),
            user_agent: head.first(Known::UserAgent).map(<[u8]>::to_vec),
            forwarded_for: forwarded_for.map(Cow::into_owned),
            peer: head.peer().ip(),
            id: head.id(),
            received_at: head.received_wall(),
            endpoint: plan.endpoint(),
            listener: Arc::clone(head.listener()),
            host: head.host().map(<[u8]>::to_vec),
            privacy: head.privacy(),
        };
        let sent_bytes = head.bytes() + bytes.len();
        let limits = self.settings.limiting.now(&self.sinks.borrow());
        let settings = Arc::clone(&self.settings);
        let offloaded = self.offload.run(move || {
            let sent = SentBody {
                bytes: &bytes,
                codings: &codings,
                sent_bytes,
                inflated_bytes_max: usize::MAX,
            };
            let plan = plan.of(&settings);
            let result = plan.run(&request.context(), sent, limits, &mut prepared);
            (prepared, result.map_err(Verdict::GiveUp))
        });
        if offloaded.is_err() {
            self.stats.shed_budget.increment();
        }
        let full = self.over_budget();
        async move {
            match offloaded {
                Ok(offloaded) => offloaded.await,
                Err(Full) => (Prepared::default(), Err(full)),
            }
        }
    }

    /// Counts the result of preparation and submits the records to the outputs.
    fn submit(
        &self,
        order: Order,
        mut prepared: Prepared,
        result: Result<(), Verdict>,
    ) -> Result<HandedOver<'_>, Verdict> {
        if order.is_unrepeatable {
            prepared.priority = prepared.priority.raised();
        }
        self.stats.wrote(&prepared.letter_tally);
        let handed_over = match result {
            Ok(()) => {
                self.count(&prepared, order.plan);
                self.hand_over(order, &mut prepared)
            }
            Err(verdict) => {
                // Its letter, if it has one. Nobody waits for that, and what is shed is counted there.
                if let Some(Ok(key)) = self.admit(order, &mut prepared) {
                    self.intake.borrow_mut().close(key);
                }
                Err(verdict)
            }
        };
        self.prepared.borrow_mut().push(prepared);
        handed_over
    }

    /// Waits until the records of one request are settled.
    async fn verdict(&self, handed_over: Result<HandedOver<'_>, Verdict>) -> Verdict {
        let HandedOver {
            accepted,
            rejected,
            withheld,
            letters,
            waiting,
        } = match handed_over {
            Ok(handed_over) => handed_over,
            Err(verdict) => return verdict,
        };
        let resolution = match waiting {
            Some(waiting) => waiting.await,
            None => Resolution::Stored,
        };
        let (shed, in_doubt) = match resolution {
            Resolution::Stored => return Verdict::Done { accepted, rejected },
            Resolution::InDoubt(shed, in_doubt) => (shed, in_doubt),
        };
        if shed.reason == ShedReason::Deadline {
            self.stats.deadline_passed.increment();
        }
        match in_doubt.total {
            0 => Verdict::RetryLater(shed),
            total => {
                let others = u32::try_from(withheld.len() + letters.len()).unwrap_or(u32::MAX);
                let records = accepted.saturating_sub(others);
                let events = &in_doubt.events;
                Verdict::InDoubt {
                    shed,
                    total,
                    indices: in_body(events, records, &rejected, &withheld, &letters),
                }
            }
        }
    }

    /// Turns a body into records.
    fn run(
        &self,
        head: &Head<'_>,
        forwarded_for: Option<&[u8]>,
        body: SentBody<'_>,
        plan: WhichPlan,
        prepared: &mut Prepared,
    ) -> Result<(), Reject> {
        let request = context_of(head, forwarded_for, plan.endpoint());
        let plan = plan.of(&self.settings);
        let limits = self.settings.limiting.now(&self.sinks.borrow());
        plan.run(&request, body, limits, prepared)
    }

    fn count(&self, prepared: &Prepared, plan: WhichPlan) {
        let stats = &self.stats;
        stats.unpacked_bytes.add(prepared.unpacked_bytes as u64);
        stats.events_received.add(u64::from(prepared.received));
        stats.events_rejected.add(prepared.rejected.len() as u64);
        stats.treated(&prepared.privacy);
        stats.clashed(&prepared.clashes);
        if plan.of(&self.settings).topics.is_some() {
            let records = prepared.records.iter();
            let without = records.filter(|record| record.topic.is_none()).count();
            stats.events_without_topic.add(without as u64);
        }
        for (tally, stats) in prepared.rule_tallies().iter().zip(&stats.rules) {
            stats.events.add(tally.events);
            stats.sampled_away.add(tally.sampled_away);
            stats.without_topic.add(tally.without_topic);
        }
        stats.checked(prepared.schema_outcomes());
    }

    /// The client's addresses as trusted proxies gave them; counts ignored headers.
    fn forwarded_for<'h>(&self, head: &Head<'h>) -> Option<Cow<'h, [u8]>> {
        let peer = head.peer().ip();
        let forwarded = self
            .settings
            .addresses
            .forwarded(head.is_from_trusted_peer(), head.all(Known::ForwardedFor));
        match forwarded.ignored {
            None => {}
            Some(Ignored::NotAnAddress) => self.stats.forwarded_for_invalid.increment(),
            Some(Ignored::UntrustedPeer) => {
                self.stats.forwarded_for_untrusted.increment();
                UNTRUSTED_WARNING.call_once(|| {
                    let peer = Shown(peer, self.settings.logged_addresses);
                    warn!(
                        %peer,
                        "ignored X-Forwarded-For of a peer that client_address.trusted does not list; \
                         further ones are only counted, in sluice_forwarded_for_ignored_total"
                    );
                });
            }
        }
        forwarded.chain
    }

    /// Gives a request's records to the outputs: all of them, or none.
    fn hand_over(&self, order: Order, prepared: &mut Prepared) -> Result<HandedOver<'_>, Verdict> {
        let rejected = u32::try_from(prepared.rejected.len()).unwrap_or(u32::MAX);
        let accepted = prepared.received.saturating_sub(rejected);
        let letters: Vec<u32> = prepared.taken_letters().collect();
        let events = (prepared.records.len() + letters.len()) as u64;
        let mut waiting = None;
        if let Some(admitted) = self.admit(order, prepared) {
            let key = admitted.map_err(|shed| self.count_shed(shed, events, prepared.priority))?;
            self.stats.events_accepted.add(events);
            waiting = Some(Waiting {
                ingest: self,
                key,
                since: self.context.recent(),
            });
        }
        Ok(HandedOver {
            accepted,
            rejected: std::mem::take(&mut prepared.rejected),
            withheld: std::mem::take(&mut prepared.withheld),
            letters,
            waiting,
        })
    }

    /// Submits records and letters; `None` if there are none.
    fn admit(&self, order: Order, prepared: &mut Prepared) -> Option<Result<RequestKey, Shed>> {
        if prepared.records.is_empty() && prepared.letters.is_empty() {
            return None;
        }
        let Order {
            permit, answer_by, ..
        } = order;
        let now = self.context.recent();
        let submit = |writer, record| self.outputs.submit(writer, record);
        let mut intake = self.intake.borrow_mut();
        Some(intake.admit(prepared, permit, answer_by, now, submit))
    }

    fn count_shed(&self, shed: Shed, events: u64, priority: Priority) -> Verdict {
        match shed.reason {
            ShedReason::Budget => self.stats.shed_budget.increment(),
            ShedReason::Circuit => self.stats.shed_circuit.increment(),
            // Only admitted requests are refused for the other reasons.
            ShedReason::Queue | ShedReason::Deadline | ShedReason::Sink => {
                self.stats.shed_queue.increment();
            }
        }
        if let Some(counter) = self.stats.shed_by_priority.get(priority as usize) {
            counter.increment();
        }
        self.stats.events_shed.add(events);
        Verdict::RetryLater(shed)
    }
}

/// A request whose body is here.
enum Taken<'s> {
    /// Prepared and submitted, or refused.
    Here(Result<HandedOver<'s>, Verdict>),
    /// Under way on another thread.
    Away(Pin<Box<dyn Future<Output = Verdict> + 's>>),
}

impl Handler for Ingest {
    type Route = Route;

    fn admit(&self, head: &Head<'_>) -> Result<Admitted<Route>, Answer> {
        let endpoint = dialect::endpoint(&self.settings.paths, head.path());
        let label = endpoint.map_or(EndpointLabel::None, Endpoint::label);
        match self.route(endpoint, head) {
            Ok(route) => Ok(Admitted {
                body_bytes_max: match route {
                    // A body of a GET has no meaning, and is read past.
                    Route::Pixel => HttpLimits::DISCARD_BYTES_MAX as usize,
                    Route::Body { .. } => self.settings.body_bytes_max,
                },
                endpoint: label,
                route,
            }),
            Err(answer) => Err(Answer {
                endpoint: label,
                ..answer
            }),
        }
    }

    fn handle<'s>(
        &'s self,
        head: &Head<'_>,
        route: Route,
        body: Body<'_>,
    ) -> impl Future<Output = Answer> + use<'s> {
        let (taken, answer): (_, DialectAnswer) = match route {
            Route::Pixel => (Taken::Here(self.pixel(head)), dialect::pixel::answer),
            Route::Body {
                codings,
                plan,
                answer,
            } => (self.take(head, body, codings, plan), answer),
        };
        async move {
            let verdict = match taken {
                Taken::Here(handed_over) => self.verdict(handed_over).await,
                Taken::Away(verdict) => verdict.await,
            };
            let retry_after_s = verdict
                .retry_after()
                .map_or(0, |RetryAfter { min_s, max_s }| {
                    fastrand::u32(min_s..=max_s)
                });
            answer(verdict, retry_after_s)
        }
    }

    fn tick(&self, now: Mono) {
        if let Some(topics) = &self.settings.collect.topics {
            topics.tick(now);
        }
        if let Some(rules) = &self.settings.collect.rules {
            rules.tick(now);
        }
        let mut intake = self.intake.borrow_mut();
        intake.tick(now);
        for (tally, stats) in intake.tallies().zip(&self.stats.outputs) {
            stats.publish(tally);
        }
        let lost = intake.lost_letters();
        self.stats.letters_without_room.set(lost.no_room);
        self.stats.letters_not_delivered.set(lost.not_delivered);
        drop(intake);
        self.stats.budget_bytes.set(self.context.budget.held());
        // Records the queue had no room for.
        self.outputs.flush();
    }

    fn end(&self) {
        self.tick(self.context.now());
        // The runtime does not drop tasks that are never woken again, so destructors would not close the queues
        // and the sinks' last files.
        self.outputs.close();
        self.sinks.borrow_mut().clear();
    }
}
