//! A bucket that answers by script: one HTTP/1.1 responder on loopback, on threads of its own, as the
//! uploader is.

use flate2::read::GzDecoder;
use md5::{Digest, Md5};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of one PutObject.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Not stored, with this status and code.
    Says(u16, &'static str),
    /// Not stored, with this status, code and date.
    Dated(u16, &'static str, String),
    /// Stored, and answered with this status and code.
    StoresAndSays(u16, &'static str),
    /// Not stored, and answered 200 with this body; with an ETag, or without.
    Page(&'static str, bool),
    /// Not stored, and answered 200 with these headers.
    Tagged(&'static str),
    /// The connection is closed without a word.
    Resets,
    /// Stored, and the connection is closed without a word.
    StoresAndResets,
    /// No word, for longer than any test lasts.
    Hangs,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    path: String,
    headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// Empty when it was not sent.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Without what follows a question mark.
    pub(super) fn path(&self) -> &str {
        self.path.split('?').next().unwrap()
    }

    pub(super) fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    pub(super) fn key(&self) -> String {
        let path = self.path();
        let key = path.strip_prefix("/clicks/").unwrap();
        key.replace("%3D", "=")
    }

    /// Its body, unpacked.
    pub(super) fn text(&self) -> String {
        unpack(&self.body)
    }
}

fn unpack(body: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}

/// In base64.
pub(super) fn md5(body: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(Md5::digest(body))
}

#[derive(Default)]
struct Script {
    plans: VecDeque<Answer>,
    /// What becomes of objects with this text.
    refused: Option<(String, Answer)>,
    seen: Vec<Seen>,
    objects: BTreeMap<String, Vec<u8>>,
    last_status: u16,
}

/// Where nothing is planned, objects are stored.
pub(super) struct Scripted {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Scripted {
    pub(super) fn start() -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::default();
        let weak = Arc::downgrade(&script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(script) = weak.upgrade() else {
                    return;
                };
                thread::spawn(move || serve(&stream.unwrap(), &script));
            }
        });
        Scripted { address, script }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn next(&self, plans: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().plans.extend(plans);
    }

    pub(super) fn forget_plans(&self) {
        self.script.lock().unwrap().plans.clear();
    }

    pub(super) fn refuse(&self, text: &str, answer: Answer) {
        self.script.lock().unwrap().refused = Some((text.to_owned(), answer));
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// Packed, by key.
    pub(super) fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.script.lock().unwrap().objects.clone()
    }

    /// Of stored objects, sorted.
    pub(super) fn texts(&self) -> Vec<String> {
        let mut texts: Vec<_> = self.objects().values().map(|body| unpack(body)).collect();
        texts.sort();
        texts
    }

    pub(super) fn last_status(&self) -> u16 {
        self.script.lock().unwrap().last_status
    }
}

fn serve(stream: &TcpStream, script: &Mutex<Script>) {
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader) {
        let answer = {
            let mut script = script.lock().unwrap();
            script.seen.push(seen.clone());
            match &script.refused {
                Some((text, answer)) if seen.text() == *text => Some(answer.clone()),
                _ => script.plans.pop_front(),
            }
        };
        let store = || {
            let mut script = script.lock().unwrap();
            let is_new = !script.objects.contains_key(&seen.key());
            if is_new || seen.header("if-none-match") != "*" {
                script.objects.insert(seen.key(), seen.body.clone());
            }
            is_new
        };
        let headers = match &answer {
            Some(Answer::Tagged(headers)) => Some((*headers).to_owned()),
            Some(Answer::Dated(_, _, date)) => Some(format!("date: {date}")),
            _ => None,
        };
        let (status, code, page) = match answer {
            Some(Answer::Tagged(_)) => (200, "", None),
            Some(Answer::Says(status, code) | Answer::Dated(status, code, _)) => {
                (status, code, None)
            }
            Some(Answer::StoresAndSays(status, code)) => {
                store();
                (status, code, None)
            }
            Some(Answer::Page(page, has_etag)) => {
                (200, if has_etag { "" } else { "none" }, Some(page))
            }
            Some(Answer::Resets) => return,
            Some(Answer::StoresAndResets) => {
                store();
                return;
            }
            Some(Answer::Hangs) => {
                thread::sleep(Duration::from_secs(60));
                return;
            }
            None if store() => (200, "", None),
            None => (412, "PreconditionFailed", None),
        };
        let own = || {
            let digest = Md5::digest(&seen.body);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("etag: \"{hex}\"\r\n")
        };
        let (etag, body) = match (page, code) {
            (Some(page), "") => (own(), page.to_owned()),
            (Some(page), _) => (String::new(), page.to_owned()),
            (None, "") => (own(), String::new()),
            // A page of something in front of the store.
            (None, "html") => (String::new(), "<html>412</html>".to_owned()),
            (None, code) => (String::new(), format!("<Error><Code>{code}</Code></Error>")),
        };
        let etag = headers.map_or(etag, |headers| format!("{headers}\r\n"));
        script.lock().unwrap().last_status = status;
        let head = format!(
            "HTTP/1.1 {status} \r\n{etag}content-length: {}\r\n\r\n",
            body.len()
        );
        let mut writer = stream;
        if writer.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    if headers.contains_key("expect") {
        let mut writer = *reader.get_ref();
        writer.write_all(b"HTTP/1.1 100 \r\n\r\n").ok()?;
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen {
        method,
        path,
        headers,
        body,
    })
}
