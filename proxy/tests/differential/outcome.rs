//! What a reader took bytes for, in a form in which readers can be compared.

use serde::Deserialize;

/// What one reader made of one case.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Outcome {
    /// Those that it took as a whole.
    pub(crate) requests: Vec<Request>,
    /// Why it takes no more, when it refused something.
    pub(crate) error: Option<String>,
}

/// Text holds a byte in each character, so that all bytes can stand in it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    /// In base64.
    pub(crate) body: String,
}

/// How a reader differs from us, at the first request at which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// We took a request that it did not.
    OursOnly,
    /// It took a request that we did not.
    TheirsOnly,
    /// Both took one, and not the same.
    Unequal,
}

impl Request {
    /// Without what readers may keep in different ways: the case and the order of names, and where the host of a URI
    /// as target stands, which counts instead of Host.
    pub(crate) fn normalized(mut self) -> Request {
        if let Some((scheme, rest)) = self.target.split_once("://")
            && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        {
            let (host, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            self.headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
            self.headers.push(("host".to_owned(), host.to_owned()));
            self.target = match rest {
                "" => "/".to_owned(),
                rest => rest.to_owned(),
            };
        }
        for (name, value) in &mut self.headers {
            name.make_ascii_lowercase();
            if name == "transfer-encoding" {
                value.make_ascii_lowercase();
            }
        }
        // net/http keeps it elsewhere, in another form.
        self.headers.retain(|(name, _)| name != "trailer");
        self.headers.sort_by(|one, two| one.0.cmp(&two.0));
        self
    }
}

impl Outcome {
    pub(crate) fn normalized(self) -> Outcome {
        Outcome {
            requests: self.requests.into_iter().map(Request::normalized).collect(),
            ..self
        }
    }

    /// How `theirs` differs. Whether a reader waits for more or refuses at once makes no difference.
    pub(crate) fn difference(&self, theirs: &Outcome) -> Option<Difference> {
        let mut at = 0;
        loop {
            match (self.requests.get(at), theirs.requests.get(at)) {
                (None, None) => return None,
                (Some(_), None) => return Some(Difference::OursOnly),
                (None, Some(_)) => return Some(Difference::TheirsOnly),
                (Some(ours), Some(theirs)) if ours != theirs => return Some(Difference::Unequal),
                (Some(_), Some(_)) => at += 1,
            }
        }
    }
}

/// Bytes as text.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
