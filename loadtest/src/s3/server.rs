//! The buckets as a service: operations and counters.

use super::body::{self, Upload};
use super::range;
use super::route::Target;
use super::store::{KEY_BYTES_MAX, New, Object, Store, StoreError};
use super::upload::{PART_NUMBER_MAX, PutPartError, Uploads, hex};
use super::xml::{self, Document};
use super::{BODY_BYTES_MAX, EmulatorError, Options, ids, list};
use crate::event_id::{EventId, IdScanner};
use crate::service::{
    self, Call, CallStats, CommonError, Frame, Refusal, Reply, Service, SignatureProblem,
};
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// Bytes of an object's own metadata (service limit).
const METADATA_BYTES_MAX: usize = 2 << 10;

/// Ids that are pushed to the ledger file together.
const LEDGER_PENDING_MAX: usize = 1 << 20;

/// Counters since the start. Also the JSON of `GET /_stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Of all calls. Ids are counted when the emulator ends.
    #[serde(flatten)]
    pub common: CallStats,
    /// Objects stored, those that replaced others included.
    pub stored: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Objects that replaced one with the same key.
    pub replaced: u64,
    /// Parts stored.
    pub parts: u64,
    /// Objects answered as stored and not stored, by the fault `drop_acked`.
    pub dropped_acked: u64,
    /// Requests that would be billed as writes: PUT, POST and LIST.
    pub billed_writes: u64,
    /// Requests that would be billed as reads: GET and HEAD.
    pub billed_reads: u64,
    /// Objects that are there.
    pub objects: u64,
    /// Bytes of them.
    pub objects_bytes: u64,
    /// Multipart uploads that are neither completed nor aborted.
    pub unfinished_uploads: u64,
}

/// State shared by all calls.
pub(super) struct Own {
    store: Store,
    uploads: Uploads,
    stats: Stats,
}

pub(super) struct S3 {
    buckets: Vec<String>,
}

type State = service::State<Own>;
type Shared = service::Shared<S3>;

/// Headers that come back with the object.
const KEPT_HEADERS: [&str; 4] = [
    "content-type",
    "content-disposition",
    "content-language",
    "cache-control",
];

fn kept_headers(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refusal> {
    let (mut kept, mut metadata_bytes) = (Vec::new(), 0);
    for (name, value) in headers {
        let Ok(value) = value.to_str() else {
            continue;
        };
        let name = name.as_str();
        if let Some(own) = name.strip_prefix("x-amz-meta-") {
            metadata_bytes += own.len() + value.len();
            kept.push((name.to_owned(), value.to_owned()));
        } else if KEPT_HEADERS.contains(&name) {
            kept.push((name.to_owned(), value.to_owned()));
        } else if name == "content-encoding" {
            // How the upload was sent is no property of the object.
            let own = value.split(',').map(str::trim);
            let own: Vec<&str> = own.filter(|own| *own != "aws-chunked").collect();
            if !own.join("").is_empty() {
                kept.push((name.to_owned(), own.join(", ")));
            }
        }
    }
    if metadata_bytes > METADATA_BYTES_MAX {
        return Err(Refusal::client(
            "MetadataTooLarge",
            format!(
                "Your metadata headers exceed the maximum allowed metadata size: \
                 {metadata_bytes} bytes, not {METADATA_BYTES_MAX}."
            ),
        ));
    }
    Ok(kept)
}

/// An upload's condition on the existing object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    None,
    /// `If-None-Match: *`
    Absent,
}

impl Condition {
    fn of(headers: &HeaderMap) -> Result<Condition, Refusal> {
        let not_emulated = |what: &str| {
            let message = format!("A header you provided is not emulated: {what}");
            Err(Refusal::new(501, "NotImplemented", message))
        };
        for name in ["if-match", "x-amz-copy-source"] {
            if headers.contains_key(name) {
                return not_emulated(name);
            }
        }
        match headers.get("if-none-match").map(HeaderValue::as_bytes) {
            None => Ok(Condition::None),
            Some(b"*") => Ok(Condition::Absent),
            Some(_) => not_emulated("If-None-Match with another value than *"),
        }
    }

    fn check(self, store: &Store, bucket: &str, key: &str) -> Result<(), Refusal> {
        if self == Condition::Absent && store.get(bucket, key).is_some() {
            return Err(precondition_failed());
        }
        Ok(())
    }
}

fn refused(error: StoreError) -> Refusal {
    match error {
        StoreError::Full { limit } => Refusal::new(
            503,
            "ServiceUnavailable",
            format!("The emulator's memory for objects and parts, {limit} bytes, is full."),
        ),
        StoreError::Io(error) => Refusal::new(500, "InternalError", error.to_string()),
    }
}

fn malformed_xml() -> Refusal {
    let message = "The XML you provided was not well-formed or did not validate against our \
                   published schema";
    Refusal::client("MalformedXML", message)
}

fn precondition_failed() -> Refusal {
    let message = "At least one of the pre-conditions you specified did not hold";
    Refusal::new(412, "PreconditionFailed", message)
}

fn no_such_key() -> Refusal {
    Refusal::new(404, "NoSuchKey", "The specified key does not exist.")
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn with_checksum(reply: Reply, checksum: Option<(&'static str, String)>) -> Reply {
    match checksum {
        Some((name, value)) => reply.with(name, &value),
        None => reply,
    }
}

impl S3 {
    fn put_object(
        &self,
        call: Call<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<Reply, Refusal> {
        let headers = kept_headers(&call.head.headers)?;
        let condition = Condition::of(&call.head.headers)?;
        let upload = body::read(&call.head.headers, call.body)?;
        let etag = hex(&upload.md5);
        let new = New {
            data: upload.data,
            etag: etag.clone(),
            headers,
        };
        store(&mut shared.lock(), target, condition, new)?;
        let reply = Reply::new(200, "").with("etag", &quoted(&etag));
        Ok(with_checksum(reply, upload.checksum))
    }

    fn create_upload(
        &self,
        call: &Call<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<Reply, Refusal> {
        let headers = kept_headers(&call.head.headers)?;
        let mut state = shared.lock();
        let uploads = &mut state.own.uploads;
        let id = uploads.create(&target.bucket, &target.key, headers)?;
        drop(state);
        let mut document = Document::new("InitiateMultipartUploadResult");
        document
            .element("Bucket", &target.bucket)
            .element("Key", &target.key)
            .element("UploadId", &id);
        Ok(document.reply())
    }

    fn upload_part(
        &self,
        call: Call<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<Reply, Refusal> {
        let number = target.parameter("partNumber").unwrap_or_default();
        let number = number.parse().ok();
        let Some(number) = number.filter(|number| (1..=PART_NUMBER_MAX).contains(number)) else {
            return Err(Refusal::client(
                "InvalidArgument",
                format!(
                    "Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"
                ),
            ));
        };
        // The copy of a part comes with the header of a copy.
        Condition::of(&call.head.headers)?;
        let Upload {
            data,
            md5,
            checksum,
        } = body::read(&call.head.headers, call.body)?;
        let id = target.parameter("uploadId").unwrap_or_default();
        let place = (target.bucket.as_str(), target.key.as_str());
        let mut state = shared.lock();
        let Own {
            store,
            uploads,
            stats,
        } = &mut state.own;
        uploads
            .put(id, place, number, data, md5, store)
            .map_err(|error| match error {
                PutPartError::Refused(refusal) => refusal,
                PutPartError::Store(error) => refused(error),
            })?;
        stats.parts += 1;
        let reply = Reply::new(200, "").with("etag", &quoted(&hex(&md5)));
        Ok(with_checksum(reply, checksum))
    }

    fn complete_upload(
        &self,
        call: &Call<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<Reply, Refusal> {
        let condition = Condition::of(&call.head.headers)?;
        let parts = xml::parts(&call.body).ok_or_else(malformed_xml)?;
        let id = target.parameter("uploadId").unwrap_or_default();
        let place = (target.bucket.as_str(), target.key.as_str());
        let mut state = shared.lock();
        let Own {
            store: own,
            uploads,
            ..
        } = &mut state.own;
        uploads.check(id, &target.bucket, &target.key)?;
        condition.check(own, &target.bucket, &target.key)?;
        let completed = uploads.complete(id, place, &parts, own)?;
        let etag = completed.etag;
        let new = New {
            data: completed.data,
            etag: etag.clone(),
            headers: completed.headers,
        };
        store(&mut state, target, condition, new)?;
        drop(state);
        let mut document = Document::new("CompleteMultipartUploadResult");
        document
            .element("Location", call.head.uri.path())
            .element("Bucket", &target.bucket)
            .element("Key", &target.key)
            .element("ETag", &quoted(&etag));
        Ok(document.reply())
    }

    fn abort_upload(&self, target: &Target, shared: &Shared) -> Result<Reply, Refusal> {
        let id = target.parameter("uploadId").unwrap_or_default();
        let mut state = shared.lock();
        let Own { store, uploads, .. } = &mut state.own;
        uploads.abort(id, &target.bucket, &target.key, store)?;
        Ok(Reply::new(204, ""))
    }

    /// GetObject and HeadObject: the server leaves the body of an answer to HEAD out.
    fn get_object(
        &self,
        call: &Call<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<Reply, Refusal> {
        let object: Object = {
            let state = shared.lock();
            let object = state.own.store.get(&target.bucket, &target.key);
            object.ok_or_else(no_such_key)?.clone()
        };
        let (etag, size) = (quoted(&object.etag), object.size as u64);
        let asked = &call.head.headers;
        match range::condition(asked, &etag) {
            range::Condition::Holds => {}
            range::Condition::NotModified => return Ok(Reply::new(304, "").with("etag", &etag)),
            range::Condition::Failed => return Err(precondition_failed()),
        }
        let io = |error| refused(StoreError::Io(error));
        let mut reply = match range::part(asked, &etag, size) {
            range::Part::Whole => Reply::new(200, object.read().map_err(io)?),
            range::Part::Range { start, end } => {
                let last = end.saturating_sub(1);
                Reply::new(206, object.read_part(start, end).map_err(io)?)
                    .with("content-range", &format!("bytes {start}-{last}/{size}"))
            }
            range::Part::Unsatisfiable => {
                let message = "The requested range is not satisfiable";
                let refusal = Refusal::new(416, "InvalidRange", message);
                shared.lock().calls.count_error(refusal.code);
                let reply = self.refuse(&refusal, call.head);
                return Ok(reply.with("content-range", &format!("bytes */{size}")));
            }
        };
        reply = reply
            .with("accept-ranges", "bytes")
            .with("etag", &etag)
            .with("last-modified", &http_date(object.modified));
        for (name, value) in &object.headers {
            // They came as headers, so they can go as such.
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                reply.headers.push((name, value));
            }
        }
        Ok(reply)
    }
}

/// Stores an object unless its condition does not hold; the fault `drop_acked` forgets it.
fn store(
    state: &mut State,
    target: &Target,
    condition: Condition,
    new: New,
) -> Result<(), Refusal> {
    let Own { store, stats, .. } = &mut state.own;
    condition.check(store, &target.bucket, &target.key)?;
    if state.faults.drop_acked() {
        stats.dropped_acked += 1;
        return Ok(());
    }
    let size = new.data.len() as u64;
    let replaced = store
        .put(&target.bucket, &target.key, new, SystemTime::now())
        .map_err(refused)?;
    stats.stored += 1;
    stats.stored_bytes += size;
    stats.replaced += u64::from(replaced);
    Ok(())
}

fn http_date(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        Err(_) => String::new(),
    }
}

impl Service for S3 {
    const NAME: &'static str = "s3";
    /// A little more than an object, for the chunks that it may come in.
    const BODY_BYTES_MAX: usize = BODY_BYTES_MAX + (BODY_BYTES_MAX >> 4);
    const CONTENT_TYPE: &'static str = "application/xml";
    const REQUEST_ID: &'static str = "x-amz-request-id";
    const FAULTS_UNKNOWN: &'static [&'static str] =
        &["short_answer", "reject", "failed_count_zero"];
    const LEDGER_AT_END: bool = true;
    type Own = Own;
    type Stats = Stats;

    fn operation(&self, head: &Parts) -> &'static str {
        let target = Target::of(head, &self.buckets);
        target.map_or("unknown", |target| target.operation(&head.method))
    }

    fn call(&self, call: Call<'_>, shared: &Shared) -> Result<Reply, Refusal> {
        let Some(target) = Target::of(call.head, &self.buckets) else {
            let message = "Couldn't parse the specified URI.";
            return Err(Refusal::client("InvalidURI", message));
        };
        if !self.buckets.contains(&target.bucket) {
            let message = "The specified bucket does not exist";
            return Err(Refusal::new(404, "NoSuchBucket", message));
        }
        if target.key.len() > KEY_BYTES_MAX {
            let message = format!(
                "Your key is too long: {} bytes, not {KEY_BYTES_MAX}.",
                target.key.len()
            );
            return Err(Refusal::client("KeyTooLongError", message));
        }
        {
            let stats = &mut shared.lock().own.stats;
            match call.operation {
                "GetObject" | "HeadObject" | "HeadBucket" => stats.billed_reads += 1,
                // Aborting is free.
                "AbortMultipartUpload" | "unknown" => {}
                _ => stats.billed_writes += 1,
            }
        }
        match call.operation {
            "PutObject" => self.put_object(call, &target, shared),
            "CreateMultipartUpload" => self.create_upload(&call, &target, shared),
            "UploadPart" => self.upload_part(call, &target, shared),
            "CompleteMultipartUpload" => self.complete_upload(&call, &target, shared),
            "AbortMultipartUpload" => self.abort_upload(&target, shared),
            "GetObject" | "HeadObject" => self.get_object(&call, &target, shared),
            "HeadBucket" => Ok(Reply::new(200, "")),
            "ListObjectsV2" => list::list(&shared.lock().own.store, &target),
            _ => Err(Refusal::new(
                501,
                "NotImplemented",
                "This operation is not emulated.",
            )),
        }
    }

    fn common_error(&self, error: CommonError, _operation: &str) -> Refusal {
        match error {
            CommonError::Internal => Refusal::new(
                500,
                "InternalError",
                "We encountered an internal error. Please try again.",
            ),
            CommonError::Throttled => {
                Refusal::new(503, "SlowDown", "Please reduce your request rate.")
            }
            CommonError::AccessDenied => Refusal::new(403, "AccessDenied", "Access Denied"),
            CommonError::ExpiredToken => {
                Refusal::client("ExpiredToken", "The provided token has expired.")
            }
            CommonError::Signature(problem) => {
                let (status, code) = match &problem {
                    SignatureProblem::Missing => (403, "AccessDenied"),
                    SignatureProblem::Malformed(_) => (400, "AuthorizationHeaderMalformed"),
                    SignatureProblem::UnknownKey => (403, "InvalidAccessKeyId"),
                    SignatureProblem::Skewed => (403, "RequestTimeTooSkewed"),
                    SignatureProblem::Mismatch => (403, "SignatureDoesNotMatch"),
                    SignatureProblem::BodyHash => (400, "XAmzContentSHA256Mismatch"),
                };
                Refusal::new(status, code, problem.to_string())
            }
        }
    }

    fn refuse(&self, refusal: &Refusal, head: &Parts) -> Reply {
        xml::error(refusal, head.uri.path())
    }

    fn too_large(&self, head: &Parts) -> Reply {
        let message = format!(
            "Your proposed upload exceeds the maximum allowed size, here {BODY_BYTES_MAX} bytes"
        );
        self.refuse(&Refusal::client("EntityTooLarge", message), head)
    }

    fn stats(&self, state: &State) -> Stats {
        let (objects, objects_bytes) = state.own.store.counts();
        Stats {
            common: state.calls.clone(),
            objects,
            objects_bytes,
            unfinished_uploads: state.own.uploads.open(),
            ..state.own.stats.clone()
        }
    }

    fn finish(&self, state: &mut State) -> Result<(), EmulatorError> {
        let State {
            own, ledger, calls, ..
        } = state;
        let Some(ledger) = ledger else {
            return Ok(());
        };
        let scanner = IdScanner::default();
        let mut failed = Ok(());
        for (bucket, key, object) in own.store.all() {
            let found = |id: EventId| {
                ledger.push_id(id);
                calls.ledger_ids += 1;
            };
            let scanned = object
                .read()
                .and_then(|bytes| ids::scan(&scanner, &bytes, found));
            // The others are read all the same.
            if let (Err(source), Ok(())) = (scanned, &failed) {
                let path = format!("{bucket}/{key}").into();
                failed = Err(EmulatorError::Io { path, source });
            }
            if ledger.pending() > LEDGER_PENDING_MAX {
                ledger.flush()?;
            }
        }
        failed
    }
}

/// A running emulator; it ends when dropped.
pub struct Emulator {
    frame: Frame<S3>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator")
            .field("addr", &self.frame.addr())
            .finish_non_exhaustive()
    }
}

impl Emulator {
    /// Listens and serves; when this returns, the emulator takes calls.
    ///
    /// # Errors
    /// When an option is out of range, the address is taken, or the ledger or the directory
    /// cannot be made.
    pub fn start(options: Options) -> Result<Emulator, EmulatorError> {
        service::in_range("buckets", options.buckets.len(), 1, 100)?;
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        for name in &options.buckets {
            let edges = [name.bytes().next(), name.bytes().last()];
            let edges = edges.iter().flatten().all(u8::is_ascii_alphanumeric);
            if !(3..=63).contains(&name.len()) || !name.bytes().all(known) || !edges {
                return Err(EmulatorError::Name {
                    what: "bucket",
                    name: name.clone(),
                    rule: "3 to 63 of a-z, 0-9, '.' and '-', a letter or digit at both ends",
                });
            }
        }
        let dir = options.dir;
        let store = Store::new(options.memory_bytes_max, dir.clone()).map_err(|source| {
            let path = dir.unwrap_or_default();
            EmulatorError::Io { path, source }
        })?;
        let own = Own {
            store,
            uploads: Uploads::default(),
            stats: Stats::default(),
        };
        let s3 = S3 {
            buckets: options.buckets,
        };
        let frame = Frame::start(options.service, s3, own)?;
        Ok(Emulator { frame })
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// When it lies in a directory and cannot be read any more.
    pub fn object(&self, bucket: &str, key: &str) -> std::io::Result<Option<Bytes>> {
        let state = self.frame.shared().lock();
        let object = state.own.store.get(bucket, key);
        object.map(Object::read).transpose()
    }

    /// Buckets and keys of all objects, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, String)> {
        let state = self.frame.shared().lock();
        let all = state.own.store.all();
        all.map(|(bucket, key, _)| (bucket.to_owned(), key.to_owned()))
            .collect()
    }

    service::emulator_methods!(Stats);
}
