//! What the connections of one core share: the handler, buffers, ids, and how answers are made and counted.

use super::answer::{Answer, ErrorBody};
use super::cors::{Cors, CorsPolicy};
use super::h1::{self, Known};
use super::limits::HttpLimits;
use super::peer::Peer;
use super::turns::Turns;
use super::{Admitted, Handler};
use crate::error_code::{self as code, ErrorCode};
use crate::runtime::context::WorkerContext;
use crate::wiping;
use sluice_core::request::RequestId;
use sluice_core::stats::EndpointLabel;
use sluice_core::time::{Mono, Wall};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

/// How the answers of all connections are made.
#[derive(Clone, Debug)]
pub struct AnswerSettings {
    /// Pages that may read answers.
    pub cors: CorsPolicy,
    /// Bounds of Retry-After, seconds.
    pub retry_after_s: RangeInclusive<u32>,
}

impl Default for AnswerSettings {
    /// No pages, a second.
    fn default() -> AnswerSettings {
        AnswerSettings {
            cors: CorsPolicy::new(Vec::new(), Duration::ZERO),
            retry_after_s: 1..=1,
        }
    }
}

/// The HTTP side of one core.
pub(crate) struct HttpServer<H> {
    pub(super) context: Rc<WorkerContext>,
    pub(super) limits: HttpLimits,
    pub(super) handler: H,
    answers: AnswerSettings,
    /// Where every read of this core lands first.
    pub(super) scratch: RefCell<Vec<u8>>,
    /// Where every answer is written first.
    pub(super) out: RefCell<Vec<u8>>,
    pub(super) turns: Turns,
    ids: RefCell<[fastrand::Rng; 2]>,
}

impl<H: Handler> HttpServer<H> {
    pub(crate) fn new(
        context: Rc<WorkerContext>,
        limits: HttpLimits,
        answers: AnswerSettings,
        handler: H,
    ) -> HttpServer<H> {
        HttpServer {
            turns: Turns::new(context.now()),
            context,
            limits,
            handler,
            answers,
            scratch: RefCell::new(vec![0; HttpLimits::READ_BYTES]),
            out: RefCell::default(),
            ids: RefCell::new([seeded(0), seeded(1)]),
        }
    }

    /// Connections that are open on this core.
    pub(crate) fn open(&self) -> u64 {
        self.context.stats.connections_open.get() + self.context.overflow.get()
    }

    /// Lets the handler do what it does from time to time.
    pub(crate) fn tick(&self, now: Mono) {
        self.handler.tick(now);
        // Nothing reads between two turns of the loop.
        wiping::wipe(&mut self.scratch.borrow_mut());
        wiping::wipe_stack();
    }

    /// Lets the handler do what it does at the end.
    pub(crate) fn end(&self) {
        self.handler.end();
    }

    /// The id of the next request.
    fn next_id(&self) -> RequestId {
        let [high, low] = &mut *self.ids.borrow_mut();
        RequestId(u128::from(high.u64(..)) << 64 | u128::from(low.u64(..)))
    }

    /// What is kept of a request that has come just now.
    pub(super) fn request(&self, head: &h1::RequestHead<'_>) -> Request {
        let (received_at, received_wall) = self.context.now_and_wall();
        let is_preflight = head.method() == "OPTIONS";
        Request {
            id: self.next_id(),
            received_at,
            received_wall,
            minor: head.minor(),
            is_head: head.method() == "HEAD",
            keeps_alive: head.keeps_alive(),
            endpoint: EndpointLabel::None,
            cors: self.cors(head.only(Known::Origin), is_preflight),
        }
    }

    /// The same for what is no request.
    pub(super) fn refused(&self, cors: Option<Cors>) -> Request {
        Request {
            id: self.next_id(),
            received_at: self.context.recent(),
            received_wall: Wall::default(),
            minor: 1,
            is_head: false,
            keeps_alive: false,
            endpoint: EndpointLabel::None,
            cors,
        }
    }

    /// Asks the handler, and notes the counter of the answer.
    pub(super) fn admit(
        &self,
        request: &mut Request,
        peer: &Peer,
        head: h1::RequestHead<'_>,
    ) -> Result<Admitted<H::Route>, Answer> {
        let admitted = self.handler.admit(&peer.head_of(request, head));
        request.endpoint = match &admitted {
            Ok(admitted) => admitted.endpoint,
            Err(answer) => answer.endpoint,
        };
        admitted
    }

    pub(super) fn cors(&self, origin: Option<&[u8]>, is_preflight: bool) -> Option<Cors> {
        self.answers.cors.evaluate(origin, is_preflight)
    }

    /// Counts an answer.
    pub(super) fn count(&self, request: &Request, answer: &Answer) {
        let took = self.context.recent().since(request.received_at);
        let took = Some(took).filter(|_| request.received_wall != Wall::default());
        let stats = &self.context.stats;
        stats.answered(request.endpoint, answer.status.as_u16(), took);
    }

    /// The answer where the byte budget is used up.
    pub(super) fn overloaded(&self) -> Answer {
        self.context.stats.shed_budget.increment();
        let message = "too many bytes are in flight; nothing was taken, send it again later";
        self.retry_later(code::OVERLOADED, message)
    }

    /// The answer on a connection over a cap.
    pub(super) fn too_many_connections(&self) -> Answer {
        let message = "too many connections are open; send it again later";
        self.retry_later(code::TOO_MANY_CONNECTIONS, message)
    }

    /// 503 with Retry-After.
    fn retry_later(&self, code: ErrorCode, message: &'static str) -> Answer {
        Answer {
            retry_after_s: Some(fastrand::u32(self.answers.retry_after_s.clone())),
            ..Answer::from(&ErrorBody::new(code, message))
        }
    }
}

/// A generator with a state of its own. Two of them make an id: 128 bits, as far apart between cores and
/// processes as the random keys of the standard library are.
fn seeded(number: u64) -> fastrand::Rng {
    use std::hash::BuildHasher;
    fastrand::Rng::with_seed(std::hash::RandomState::new().hash_one(number))
}

/// What is kept of a request until it is answered.
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) received_at: Mono,
    pub(super) received_wall: Wall,
    pub(super) minor: u8,
    pub(super) is_head: bool,
    pub(super) keeps_alive: bool,
    pub(super) endpoint: EndpointLabel,
    pub(super) cors: Option<Cors>,
}
