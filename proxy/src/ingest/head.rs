//! What a request's head alone decides: its answer, or how the request goes on.

use super::{Ingest, IngestSettings};
use crate::dialect::{self, Endpoint};
use crate::error_code::{CONTENT_ENCODING_UNSUPPORTED, METHOD_NOT_ALLOWED, NOT_FOUND};
use crate::http::{Answer, ErrorBody, Head, Known};
use crate::runtime::drain::DrainPhase;
use crate::verdict::Verdict;
use ::http::StatusCode;
use sluice_core::inflate::{CodingError, Codings};
use sluice_core::plan::Plan;
use sluice_core::priority::Shares;
use sluice_core::request::query_parameters;
use sluice_core::stats::EndpointLabel;

/// How a request goes on that is taken.
pub enum Route {
    /// Its query is the event.
    Pixel,
    /// Its body has the events.
    Body {
        /// How the body is packed.
        codings: Codings,
        /// How it becomes records.
        plan: WhichPlan,
        /// How its verdict is phrased.
        answer: DialectAnswer,
    },
}

/// A dialect's response to a verdict, given the seconds for Retry-After.
pub type DialectAnswer = fn(Verdict, u32) -> Answer;

/// Names one of the plans of [`IngestSettings`], because other threads look it up too.
#[derive(Clone, Copy, Debug)]
pub enum WhichPlan {
    /// [`IngestSettings::collect`].
    Collect,
    /// [`IngestSettings::events`].
    Events,
    /// [`IngestSettings::pixel`].
    Pixel,
}

impl WhichPlan {
    /// The endpoint whose bodies it is for.
    pub(super) fn endpoint(self) -> &'static str {
        match self {
            WhichPlan::Collect => EndpointLabel::Collect.label(),
            WhichPlan::Events => EndpointLabel::Events.label(),
            WhichPlan::Pixel => EndpointLabel::Pixel.label(),
        }
    }

    pub(super) fn of(self, settings: &IngestSettings) -> &Plan {
        match self {
            WhichPlan::Collect => &settings.collect,
            WhichPlan::Events => &settings.events,
            WhichPlan::Pixel => &settings.pixel,
        }
    }
}

impl Ingest {
    /// What is decided by the head alone: the answer, or how the request goes on.
    pub(super) fn route(
        &self,
        endpoint: Option<Endpoint>,
        head: &Head<'_>,
    ) -> Result<Route, Answer> {
        let Some(endpoint) = endpoint else {
            return Err(Answer::from(&ErrorBody::new(
                NOT_FOUND,
                "no such endpoint here",
            )));
        };
        if let Some(refused) = refuse_method(endpoint, head.method()) {
            return Err(refused);
        }
        if let Some(problem) = self.not_admitted(endpoint, head) {
            return Err(Answer::from(&problem));
        }
        let (plan, answer): (_, DialectAnswer) = match endpoint {
            Endpoint::Health => return Err(self.health()),
            Endpoint::Ping => return Err(ping(head)),
            Endpoint::Pixel => return Ok(Route::Pixel),
            Endpoint::Collect => (WhichPlan::Collect, dialect::aws::answer),
            Endpoint::Events => (WhichPlan::Events, dialect::generic::answer),
        };
        match codings(head, plan.of(&self.settings)) {
            Ok(codings) => Ok(Route::Body {
                codings,
                plan,
                answer,
            }),
            Err(error) => Err(Answer::from(&ErrorBody::new(
                CONTENT_ENCODING_UNSUPPORTED,
                error.to_string(),
            ))),
        }
    }

    fn health(&self) -> Answer {
        if self.context.drain.phase() == DrainPhase::Serving {
            Answer::json(StatusCode::OK, "{\"ok\":true}")
        } else {
            Answer::json(StatusCode::SERVICE_UNAVAILABLE, "{\"ok\":false}")
        }
    }

    /// Whether priorities make a difference.
    pub(super) fn has_priorities(&self) -> bool {
        self.settings.intake.shares != Shares::WHOLE
    }

    /// Whether nobody sends the request again if it is shed: the script that sent it cannot see the answer. A beacon
    /// (`navigator.sendBeacon`) with a body of text, a form or bytes is sent so, an image, and `fetch` in the same mode.
    pub(super) fn is_unrepeatable(&self, head: &Head<'_>) -> bool {
        self.has_priorities()
            && head.fields().any(|(name, value)| {
                name.eq_ignore_ascii_case("sec-fetch-mode") && value == b"no-cors"
            })
    }

    /// Why this client may not send. A health check may always: balancers name no Host of the list.
    fn not_admitted(&self, endpoint: Endpoint, head: &Head<'_>) -> Option<ErrorBody> {
        let admit = &self.settings.admit;
        if endpoint == Endpoint::Health {
            return None;
        }
        admit.refuse_host(head).or_else(|| {
            if endpoint == Endpoint::Ping || !admit.asks_for_app() {
                return None;
            }
            let [app_id] = query_parameters(head.query(), ["appId"]);
            admit.refuse_app(app_id.as_deref())
        })
    }
}

fn refuse_method(endpoint: Endpoint, method: &str) -> Option<Answer> {
    let allow = match (endpoint, method) {
        // A CORS preflight.
        (Endpoint::Collect | Endpoint::Events | Endpoint::Pixel | Endpoint::Ping, "OPTIONS") => {
            return Some(Answer::empty(StatusCode::NO_CONTENT));
        }
        // Every other method is recorded here, as the replaced tier does.
        (Endpoint::Collect, _)
        | (Endpoint::Events, "POST")
        | (Endpoint::Pixel, "GET")
        | (Endpoint::Ping | Endpoint::Health, "GET" | "HEAD") => return None,
        (Endpoint::Events, _) => "POST",
        (Endpoint::Pixel, _) => "GET",
        (Endpoint::Ping | Endpoint::Health, _) => "GET, HEAD",
    };
    let problem = ErrorBody::new(METHOD_NOT_ALLOWED, format!("this endpoint takes {allow}"));
    Some(Answer {
        allow: Some(allow),
        ..Answer::from(&problem)
    })
}

/// The content codings of the body; several lines are one list (RFC 9110, 5.3).
fn codings(head: &Head<'_>, plan: &Plan) -> Result<Codings, CodingError> {
    let mut codings = Codings::default();
    for line in head.all(Known::ContentEncoding) {
        codings.read(line)?;
    }
    plan.accept(&codings)?;
    Ok(codings)
}

fn ping(head: &Head<'_>) -> Answer {
    let now = head.received_wall().unix_millis();
    let body = format!("{{\"timestamp\": {}.{:03}}}", now / 1_000, now % 1_000);
    Answer::json(StatusCode::OK, body)
}
