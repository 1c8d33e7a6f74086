//! One thread per core, with its own runtime, listeners and handler.
//!
//! Cores share only the connection limits, the drain phase and whatever their handlers share. The I/O driver
//! (io_uring or epoll) is chosen here, once for all cores.

mod pinning;
mod settings;

pub use settings::{ListenSettings, Pinning, ProxyProtocol};

use crate::http::{AnswerSettings, Handler, HttpLimits, HttpServer, serve};
use crate::listeners::{ListenAddress, Listener};
use crate::net::listener::{self, Accepted, Acceptor, BindError, ConnectionLimiter};
use crate::runtime::clock::Clock;
use crate::runtime::context::{TICK, WorkerContext};
use crate::runtime::drain::Drain;
use crate::runtime::driver::DriverKind;
use crate::runtime::sockets::{SWEEP_EVERY, Sockets};
use sluice_core::stats::WorkerStats;
use sluice_core::time::Mono;
use sluice_sinks::settings::Problem;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long after the last accept a connected client may still begin a request; then idle connections are
/// closed. A client that connected at the last moment sends its request a round trip later.
const LAST_CALL: Duration = Duration::from_millis(100);

/// Memory that a connection at rest takes, with TLS or HTTP/2; without either it is a tenth.
const CONNECTION_BYTES: u64 = 24 << 10;

const SWEEP_TICKS: u32 = 25;
const _: () = assert!(TICK.as_millis() * SWEEP_TICKS as u128 == SWEEP_EVERY.as_millis(),);

/// Why the cores did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring was asked for by name.
    #[error("io_uring cannot be used here: {0}")]
    Uring(#[source] io::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A limit is out of its bounds.
    #[error("{0}")]
    Limit(Box<Problem>),
    /// A thread or its runtime could not be made.
    #[error("worker {worker} cannot start: {source}")]
    Thread {
        /// Its index.
        worker: usize,
        /// The system's error.
        source: io::Error,
    },
}

/// A worker thread panicked; its connections are lost.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} panicked")]
pub struct WorkerPanicked {
    /// Its index.
    pub worker: usize,
}

/// Everything the cores need to start.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// How many cores there are, and on which driver. Its address is that of the first listener.
    pub listen: ListenSettings,
    /// Whether a CPU quota bounds the process to less than its cores.
    pub has_cpu_quota: bool,
    /// Limits per connection and client.
    pub limits: HttpLimits,
    /// How answers are made.
    pub answers: AnswerSettings,
    /// Each core's share of the bytes in flight.
    pub budget_bytes: u64,
    /// The memory limit of the process.
    pub memory_bytes: u64,
    /// Where they listen; every core accepts from all of them.
    pub listeners: Vec<Listener>,
    /// How many outputs each core counts for.
    pub outputs: usize,
    /// How many rules of routing, the unmatched events included.
    pub rules: usize,
    /// How many schemas.
    pub schemas: usize,
    /// The process's clock.
    pub clock: Clock,
    /// The process's shutdown progress.
    pub drain: Arc<Drain>,
}

/// The running cores.
#[derive(Debug)]
pub struct Workers {
    /// Where they listen, in the order of the listeners, with the ports that the kernel chose.
    pub addresses: Vec<ListenAddress>,
    /// Their counters, one block per core.
    pub stats: Vec<Arc<WorkerStats>>,
    /// Which driver runs.
    pub driver: DriverKind,
    /// Connections that may be open: as configured, or half the descriptors.
    pub connections_max: usize,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// The first address that is one of TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        })
    }

    /// Waits until every core has returned, which they do after [`Drain::drain`].
    ///
    /// # Errors
    /// A core panicked. The others have returned.
    pub fn join(self) -> Result<(), WorkerPanicked> {
        let mut result = Ok(());
        for (worker, thread) in self.threads.into_iter().enumerate() {
            if thread.join().is_err() {
                result = Err(WorkerPanicked { worker });
            }
        }
        result
    }
}

/// Starts the cores: binds, then makes a handler on each core's own thread by `make`, and returns
/// when all of them accept.
///
/// # Errors
/// See [`StartError`]. No core keeps running; if one had started, [`WorkerSettings::drain`] has begun.
pub fn run_workers<H: Handler>(
    settings: &WorkerSettings,
    make: impl Fn(Rc<WorkerContext>) -> H + Clone + Send + 'static,
) -> Result<Workers, StartError> {
    if let Some(problem) = settings.limits.out_of_bounds() {
        return Err(StartError::Limit(Box::new(problem)));
    }
    let listen = &settings.listen;
    let driver = listen.driver.choose().map_err(StartError::Uring)?;
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let count = match listen.workers {
        0 => cores.len().max(1),
        count => count,
    };

    let pin = pinning::decide(listen.pin, count, cores.len(), settings.has_cpu_quota);
    let mut addresses = Vec::with_capacity(settings.listeners.len());
    // For each core, a socket of each listener.
    let mut sockets: Vec<Vec<(OwnedFd, Listener)>> = (0..count).map(|_| Vec::new()).collect();
    for listener in &settings.listeners {
        let (address, opened) = match &listener.settings.address {
            ListenAddress::Tcp(address) => {
                let (bound, opened) = listener::bind(*address, count)?;
                (ListenAddress::Tcp(bound), opened)
            }
            ListenAddress::Unix(path) => {
                let opened = listener::bind_unix(path, count)?;
                (listener.settings.address.clone(), opened)
            }
        };
        addresses.push(address);
        for (core, socket) in sockets.iter_mut().zip(opened) {
            core.push((socket, listener.clone()));
        }
    }

    let connections_max = connections_max(settings);
    let limiter = Arc::new(ConnectionLimiter::new(
        connections_max,
        settings.limits.connections_per_source_max,
    ));

    let (report, reports) = mpsc::channel();
    let mut stats = Vec::with_capacity(count);
    let mut threads = Vec::with_capacity(count);
    for (index, listeners) in sockets.into_iter().enumerate() {
        let block = Arc::new(
            WorkerStats::new(settings.outputs, settings.rules).with_schemas(settings.schemas),
        );
        block.driver.set(driver.number());
        stats.push(Arc::clone(&block));
        let start = Start {
            index,
            core: pin.is_yes().then(|| cores.get(index).copied()).flatten(),
            driver,
            listeners,
            limits: settings.limits,
            answers: settings.answers.clone(),
            budget_bytes: settings.budget_bytes,
            limiter: Arc::clone(&limiter),
            stats: block,
            clock: settings.clock,
            drain: Arc::clone(&settings.drain),
        };
        let make = make.clone();
        let report = report.clone();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || start.run(make, &report))
            .map_err(|source| StartError::Thread {
                worker: index,
                source,
            });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                settings.drain.drain(Mono::default());
                return Err(error);
            }
        }
    }
    drop(report);
    for _ in 0..count {
        let failed = match reports.recv() {
            Ok((_, Ok(()))) => continue,
            Ok((worker, Err(source))) => StartError::Thread { worker, source },
            Err(_) => StartError::Thread {
                worker: count,
                source: io::Error::other("a worker ended before it was ready"),
            },
        };
        settings.drain.drain(Mono::default());
        return Err(failed);
    }
    tracing::info!(
        workers = count,
        driver = driver.label(),
        pin = pin.why(),
        connections_max,
        "listening"
    );
    Ok(Workers {
        addresses,
        stats,
        driver,
        connections_max,
        threads,
    })
}

/// Connections that may be open: as configured, or what descriptors and memory allow.
fn connections_max(settings: &WorkerSettings) -> usize {
    let configured = settings.limits.connections_max;
    let memory = settings.memory_bytes / 4 / CONNECTION_BYTES;
    let caps = [
        (
            listener::half_of_descriptors(),
            "half of the open files that the process may have",
        ),
        (
            usize::try_from(memory).ok(),
            "what a quarter of the memory limit holds",
        ),
    ];
    let caps = caps.iter().filter_map(|(cap, what)| Some(((*cap)?, what)));
    let Some((cap, what)) = caps.min_by_key(|(cap, _)| *cap) else {
        return configured;
    };
    if cap < configured {
        tracing::warn!(
            configured,
            connections_max = cap,
            "connections_max is cut to {what}"
        );
    }
    cap.min(configured)
}

/// Everything one core's thread needs.
struct Start {
    index: usize,
    core: Option<core_affinity::CoreId>,
    driver: DriverKind,
    listeners: Vec<(OwnedFd, Listener)>,
    limits: HttpLimits,
    answers: AnswerSettings,
    budget_bytes: u64,
    limiter: Arc<ConnectionLimiter>,
    stats: Arc<WorkerStats>,
    clock: Clock,
    drain: Arc<Drain>,
}

type Report = mpsc::Sender<(usize, io::Result<()>)>;

impl Start {
    fn run<H: Handler>(self, make: impl Fn(Rc<WorkerContext>) -> H, report: &Report) {
        if let Some(core) = self.core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!(
                worker = self.index,
                core = core.id,
                "cannot pin to the core"
            );
        }
        let index = self.index;
        let built = self.driver.block_on(self.serve(make, report));
        if let Err(error) = built {
            // The receiver is gone if another worker failed first.
            let _ = report.send((index, Err(error)));
        }
    }

    async fn serve<H: Handler>(self, make: impl Fn(Rc<WorkerContext>) -> H, report: &Report) {
        let context = Rc::new(WorkerContext::new(
            self.index,
            self.stats,
            self.drain,
            self.clock,
            self.budget_bytes,
        ));
        let server = Rc::new(HttpServer::new(
            Rc::clone(&context),
            self.limits,
            self.answers,
            make(Rc::clone(&context)),
        ));
        let serve = {
            let server = Rc::clone(&server);
            move |accepted: Accepted| {
                // Drop the handle now: one that is kept would have to be dropped on this thread, too.
                drop(monoio::spawn(serve(accepted, Rc::clone(&server))));
            }
        };
        let opened = Sockets::new().map(Rc::new).and_then(|sockets| {
            drop(monoio::spawn(Rc::clone(&sockets).run()?));
            let open = |(socket, listener): (OwnedFd, Listener)| {
                let rules = listener.rules();
                Acceptor::new(socket, rules, &sockets, &context, &self.limiter).map(Rc::new)
            };
            let acceptors: io::Result<Vec<_>> = self.listeners.into_iter().map(open).collect();
            Ok((sockets, acceptors?))
        });
        let (sockets, mut acceptors) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = report.send((self.index, Err(error)));
                return;
            }
        };
        for acceptor in &acceptors {
            let (acceptor, serve) = (Rc::clone(acceptor), serve.clone());
            drop(monoio::spawn(async move {
                acceptor.accept(serve).await;
            }));
        }
        let _ = report.send((self.index, Ok(())));

        let mut ticks = 0;
        let mut last_call = None;
        loop {
            monoio::time::sleep(TICK).await;
            context.read_wall();
            let now = context.recent();
            server.tick(now);
            ticks += 1;
            if ticks % SWEEP_TICKS == 0 {
                sockets.sweep(now);
            }
            if context.accepts() {
                continue;
            }
            // The first time there are acceptors to close.
            for acceptor in acceptors.drain(..) {
                acceptor.close(&serve);
            }
            let last_call = *last_call.get_or_insert(now + LAST_CALL);
            if now < last_call.min(context.drain.deadline()) {
                continue;
            }
            sockets.end_all_soon();
            if server.open() > 0 && now >= context.drain.deadline() {
                // The runtime forgets tasks without dropping them: sockets would stay open and
                // requests uncounted.
                sockets.end_all_now();
                monoio::time::sleep(TICK).await;
            }
            if server.open() == 0 || now >= context.drain.deadline() {
                server.end();
                return;
            }
        }
    }
}
