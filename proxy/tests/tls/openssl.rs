//! OpenSSL's client over a socket. Its program comes with Debian's `ca-certificates`.

use super::support::{Authority, Files, named};
use sluice_proxy::net::tls::{ClientCertificates, Socket, Tls, TlsSession};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

/// A socket that blocks, so that every poll is ready.
struct Blocking(TcpStream);

impl Socket for Blocking {
    fn poll_read(&self, _: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready((&self.0).read(buffer))
    }

    fn poll_write(&self, _: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready((&self.0).write(bytes))
    }

    fn shutdown(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

/// What a session says of itself, as the answer to one line.
async fn serve(mut session: TlsSession, socket: Blocking) -> Option<()> {
    poll_fn(|cx| session.poll_handshake(cx, &socket))
        .await
        .ok()?;
    let mut line = [0; 64];
    poll_fn(|cx| session.poll_read(cx, &socket, &mut line))
        .await
        .ok()?;
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"none")).into_owned();
    let answer = format!(
        "{} {} {} {} {}\n",
        session.version().unwrap_or("none"),
        text(session.alpn()),
        session.server_name().unwrap_or("none"),
        session.client_subject().unwrap_or("none"),
        session.is_resumed()
    );
    poll_fn(|cx| session.poll_write(cx, &socket, answer.as_bytes()))
        .await
        .ok()?;
    poll_fn(|cx| session.poll_flush(cx, &socket)).await.ok()?;
    poll_fn(|cx| session.poll_close(cx, &socket)).await.ok()
}

/// Answers connections until the process ends.
fn start(tls: Tls) -> (SocketAddr, Arc<Tls>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Arc::new(tls);
    let served = Arc::clone(&tls);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut task = Box::pin(serve(served.accept().unwrap(), Blocking(socket.unwrap())));
            let poll = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_ready(), "a socket that blocks keeps nobody waiting");
        }
    });
    (address, tls)
}

fn openssl(address: SocketAddr, files: &Files, more: &[&str]) -> Output {
    let more = [&["-quiet"], more].concat();
    openssl_with(address, files, &more, b"question\n")
}

fn openssl_with(address: SocketAddr, files: &Files, more: &[&str], input: &[u8]) -> Output {
    let ca = files.write("ca.pem", files.authority.pem());
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-verify_return_error",
            "-servername",
            "a.example",
        ])
        .args(["-verify_hostname", "a.example", "-CAfile"])
        .arg(ca)
        .arg("-connect")
        .arg(address.to_string())
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl, as .ci/setup installs it");
    // One that was refused reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What the server answered.
fn answer(address: SocketAddr, files: &Files, more: &[&str]) -> String {
    let output = openssl(address, files, more);
    let shown = String::from_utf8_lossy(&output.stderr);
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!answer.is_empty(), "{more:?}: {shown}");
    answer.trim_end().to_owned()
}

#[test]
fn openssl_speaks_both_tls_versions_and_agrees_by_alpn() {
    let files = Files::one();
    let (address, _tls) = start(files.load());
    let asked = |more: &[&str]| answer(address, &files, more);
    assert_eq!(asked(&["-tls1_3"]), "1.3 none a.example none false");
    assert_eq!(asked(&["-tls1_2"]), "1.2 none a.example none false");
    let alpn = ["-alpn", "http/1.1,h2"];
    assert_eq!(asked(&alpn), "1.3 h2 a.example none false");
    let older = openssl(address, &files, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(older.stdout.is_empty());
}

#[test]
fn openssl_resumes_at_another_host_with_the_same_ticket_keys() {
    let mut files = Files::one();
    files.tickets(&[1]);
    let (first, _tls) = start(files.load());
    let (second, _tls) = start(files.load());
    for version in ["-tls1_2", "-tls1_3"] {
        let session = files.path("session").to_str().unwrap().to_owned();
        let fresh = answer(first, &files, &[version, "-sess_out", &session]);
        let again = answer(second, &files, &[version, "-sess_in", &session]);
        assert!(
            fresh.ends_with("false") && again.ends_with("true"),
            "{fresh} {again}"
        );
    }
}

#[test]
fn openssl_shows_a_client_certificate() {
    let mut files = Files::one();
    let clients = Authority::new("clients");
    files.ask(ClientCertificates::Required, &clients);
    let own = clients.sign(named("sdk-7"), &[], 2090);
    let certificate = files.write("own.crt", &own.certificate);
    let key = files.write("own.key", &own.key);
    let (address, _tls) = start(files.load());
    for version in ["-tls1_2", "-tls1_3"] {
        let paths = [&certificate, &key].map(|path| path.to_str().unwrap());
        let more = [version, "-cert", paths[0], "-key", paths[1]];
        let shown = answer(address, &files, &more);
        assert!(shown.contains(" CN=sdk-7 "), "{shown}");
        let refused = openssl(address, &files, &[version]);
        assert!(refused.stdout.is_empty());
        let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            reason.contains("certificate required") || reason.contains("handshake failure"),
            "{reason}"
        );
    }
}

#[test]
fn renegotiation_is_refused_and_the_server_goes_on() {
    let files = Files::one();
    let (address, _tls) = start(files.load());
    // The letter asks for it; the alert that refuses it ends OpenSSL's client.
    let refused = openssl_with(address, &files, &["-tls1_2"], b"R\nquestion\n");
    let shown = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(shown.contains("RENEGOTIATING"), "{shown}");
    assert!(shown.contains("no renegotiation"), "{shown}");
    assert!(!refused.status.success());
    let next = answer(address, &files, &["-tls1_2"]);
    assert_eq!(next, "1.2 none a.example none false");
}
