//! Puts the process together, runs it, and takes it down again.
//!
//! ```text
//!  start: writers (one thread each) -> cores (listening) -> admin port
//!  end:   health 503, still serving | answers close connections | nothing accepted, requests end
//!         | cores gone, so the queues close | writers settle what they have | counts, exit code
//! ```

mod shutdown;
mod signals;

use self::shutdown::shut_down;
use self::signals::Signals;
use crate::admin::health::{Promise, Readiness};
use crate::admin::metrics::{LimitGauges, OutputSource, Sources};
use crate::admin::{Admin, HostPolicy};
use crate::admit::Admit;
use crate::config::Config;
use crate::config::groups::{self, is_default};
use crate::host_info::{self, HostInfo};
use crate::http::{AddressPolicy, AnswerSettings, CorsPolicy, HttpLimits};
use crate::ingest::{Ingest, IngestSettings};
use crate::listeners::Listener;
use crate::net::tls::{Tls, TlsError};
use crate::offload::Offload;
use crate::outputs::Outputs;
use crate::privacy::{SuppressFile, SuppressFileError};
use crate::process;
use crate::routing::places_of;
use crate::runtime::clock::{self, Clock};
use crate::runtime::context::WorkerContext;
use crate::runtime::drain::Drain;
use crate::schemas::{SchemaError, SchemaSet};
use crate::wiping;
use crate::worker::{self, WorkerSettings, Workers};
use sluice_core::ack::{OutputId, WriterId};
use sluice_core::circuit::{CircuitSettings, FAILURES_MAX};
use sluice_core::delivery::{DeliverySettings, SpoolRule};
use sluice_core::intake::{GroupRule, IntakeSettings, OutputRule, RetryAfter};
use sluice_core::partition::PartitionRule;
use sluice_core::plan::{Mode, Plan};
use sluice_core::priority::Shares;
use sluice_core::privacy::RulesError as PrivacyError;
use sluice_core::queue::{self, Sender};
use sluice_core::record::Record;
use sluice_core::retry::RetryPolicy;
use sluice_core::route::DeliveryClass;
use sluice_core::route::rules::RulesError;
use sluice_core::server_fields::NameError;
use sluice_core::stats::{BillingStats, WriterStats};
use sluice_core::topic::Topics;
use sluice_sinks::output::{AckMode, Output};
use sluice_sinks::sink::Sink;
use sluice_sinks::spool::{Spool, SpoolError};
use sluice_sinks::writer::{self, WriterHandle, WriterSpool};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// Submissions a queue holds: with one per core and turn, seconds of a stalled writer. Bytes are bounded on
/// admission.
const QUEUE_SUBMISSIONS: usize = 1_024;

/// How often files of TLS, the suppress list and schemas are looked at.
const MAINTAIN_EVERY: Duration = Duration::from_secs(5);

/// The process could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A writer or its sink did not start.
    #[error(transparent)]
    Writer(#[from] writer::StartError),
    /// The spool of an output cannot be used.
    #[error("output {output}: {source}")]
    Spool {
        /// The output.
        output: String,
        /// What is wrong.
        source: SpoolError,
    },
    /// A file of a listener's TLS is missing or broken.
    #[error("listener {listener}: {source}")]
    Tls {
        /// Its name.
        listener: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The rules of routing ask for too much.
    #[error(transparent)]
    Routing(#[from] RulesError),
    /// The list of suppressed ids cannot be used.
    #[error("privacy.suppress_file: {0}")]
    Suppressed(#[from] SuppressFileError),
    /// A schema cannot be put in force.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Two rules of privacy contradict each other.
    #[error("privacy: {0}")]
    Privacy(#[from] PrivacyError),
    /// Two fields of the server have one name.
    #[error("server_fields: {0}")]
    ServerFields(#[from] NameError),
    /// The listeners did not start.
    #[error(transparent)]
    Worker(#[from] worker::StartError),
    /// The system refused something that every process needs.
    #[error("cannot {what}: {source}")]
    System {
        /// The step that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl AppError {
    fn clock(source: io::Error) -> AppError {
        let what = "use the wall clock";
        AppError::System { what, source }
    }
}

/// Runs until SIGTERM, SIGINT or SIGQUIT and through the drain after it. Exit code 0 when nothing
/// was left behind, 1 when something was.
///
/// # Errors
/// The process could not be assembled; no connection was accepted.
pub fn run(config: &Config) -> Result<ExitCode, AppError> {
    for note in &config.notes {
        info!("{note}");
    }
    process::check_wall_clock(clock::wall().secs).map_err(AppError::clock)?;
    process::raise_descriptor_limit();
    for output in &config.outputs {
        info!(
            output = output.name,
            "type" = output.type_name,
            ack = output.timing.ack.word(),
            writers = output.delivery.writers,
            "output in force"
        );
    }
    for group in &config.groups {
        let spread = group.settings.spread.word();
        info!(group = group.name, of = ?group.settings.of, spread, "group in force");
    }
    if config.client_address.fake_ip {
        warn!(
            "client_address.fake_ip is on: whoever sends events can choose the ip of their records"
        );
    }
    let system = |what| move |source| AppError::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime of the main thread"))?;
    // Before anything starts, so that no signal is missed.
    let mut signals = runtime
        .block_on(async { Signals::listen() })
        .map_err(system("listen for signals"))?;

    let clock = Clock::start();
    let drain = Arc::new(Drain::default());
    let listeners = load_listeners(config)?;
    let suppressed = config.privacy.load_suppressed()?.map(Arc::new);
    let schemas = Arc::new(SchemaSet::load(&config.schemas, &config.routing)?);
    if config.privacy.has_rules(&config.listeners) {
        wiping::begin();
    }
    let names = config.outputs.iter().map(|output| output.name.clone());
    let readiness = Arc::new(Readiness::new(Arc::clone(&drain), names));
    let outputs = start_outputs(config, clock, &readiness)?;
    let workers = start_workers(
        config,
        clock,
        &drain,
        &outputs,
        &listeners,
        suppressed.as_deref(),
        &schemas,
    )?;
    let running = Running {
        readiness: &readiness,
        workers: &workers,
        outputs: &outputs,
        listeners: &listeners,
        suppressed: suppressed.as_ref(),
        schemas: &schemas,
    };
    let admin = start_admin(config, clock, &running).map_err(system("serve the admin port"))?;
    for (address, listener) in workers.addresses.iter().zip(&listeners) {
        info!(
            %address,
            listener = listener.settings.name,
            tls = listener.tls.is_some(),
            http2 = listener.settings.http2.word(),
            proxy_protocol = listener.settings.proxy_protocol.word(),
            "accepting requests"
        );
    }
    drain.start();

    let tls: Vec<_> = listeners
        .into_iter()
        .filter_map(|listener| listener.tls)
        .collect();
    runtime.block_on(async {
        tokio::select! {
            () = signals.wait_for_end() => {}
            () = maintain(&tls, suppressed.as_deref(), &schemas) => {}
            () = schemas.refresh() => {}
        }
    });
    let clean = shut_down(config, clock, &drain, workers, outputs);
    if let Some(admin) = admin {
        admin.stop();
    }
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Loads what the listeners need of their files.
fn load_listeners(config: &Config) -> Result<Vec<Listener>, AppError> {
    let listeners = config.listeners.iter().cloned();
    listeners
        .map(|settings| {
            let listener = settings.name.clone();
            Listener::load(settings).map_err(|source| AppError::Tls { listener, source })
        })
        .collect()
}

/// Takes changed certificates, keys, suppress lists and schemas, for ever. On the main thread, which has nothing else to do, and may wait for
/// a disk.
async fn maintain(tls: &[Arc<Tls>], suppressed: Option<&SuppressFile>, schemas: &SchemaSet) {
    loop {
        tokio::time::sleep(MAINTAIN_EVERY).await;
        for tls in tls {
            tls.maintain(clock::wall());
        }
        if let Some(suppressed) = suppressed {
            suppressed.maintain();
        }
        schemas.maintain();
    }
}

/// The writers of one output.
struct RunningOutput {
    name: String,
    queue_bytes_max: u64,
    /// One per writer thread.
    queues: Vec<Sender<Vec<Record>>>,
    handles: Vec<WriterHandle>,
    stats: Vec<Arc<WriterStats>>,
    /// The cores read its limits; the writers of an output have equal sinks.
    sink: Arc<dyn Sink>,
    /// One per writer, where the destination bills in steps.
    bills: Vec<Arc<BillingStats>>,
    spool: Option<Spool>,
}

fn start_outputs(
    config: &Config,
    clock: Clock,
    readiness: &Arc<Readiness>,
) -> Result<Vec<RunningOutput>, AppError> {
    let ids = (0..).map(OutputId);
    ids.zip(&config.outputs)
        .map(|(id, output)| start_output(id, output, config, clock, readiness))
        .collect()
}

fn start_output(
    id: OutputId,
    output: &Output,
    config: &Config,
    clock: Clock,
    readiness: &Arc<Readiness>,
) -> Result<RunningOutput, AppError> {
    let spool = start_spool(output, config.routing.shares())?;
    let promise = Promise {
        ack: output.timing.ack,
        spool: spool.as_ref().map(|spool| Arc::clone(spool.stats())),
        has_fallback: output.delivery.fallback.is_some(),
    };
    readiness.promise(id, promise);
    let mut queues = Vec::new();
    let mut handles = Vec::new();
    let mut stats = Vec::new();
    let mut sink = None;
    let mut bills = Vec::new();
    let has_fallback = output.delivery.fallback.is_some()
        || config.groups.iter().any(|group| group.covers(&output.name));
    let is_fallback = |other: &&Output| other.delivery.fallback.as_ref() == Some(&output.name);
    let mut firsts = config.outputs.iter().filter(is_fallback);
    // What stands in for an output with a spool gives back what it cannot deliver.
    let has_fallback = has_fallback || firsts.clone().any(|first| first.spool.is_some());
    let has_other_place = has_fallback || output.spool.is_some() || firsts.next().is_some();
    let circuit = output.delivery.circuit_open_after;
    // At most 64 writers.
    for number in (0..).take(output.delivery.writers) {
        let (sender, receiver) = queue::queue(QUEUE_SUBMISSIONS);
        let troubled = Arc::clone(readiness);
        let settings = writer::WriterSettings {
            output: match output.delivery.writers {
                1 => output.name.clone(),
                _ => format!("{}-{number}", output.name),
            },
            id: WriterId { output: id, number },
            delivery: DeliverySettings {
                linger: output.timing.linger,
                in_flight_max: output.delivery.in_flight_max,
                retry: RetryPolicy {
                    base: output.delivery.retry_base,
                    cap: output.delivery.retry_cap,
                },
                circuit: circuit.map(|open_after| CircuitSettings {
                    open_after,
                    failures_max: has_other_place.then_some(FAILURES_MAX),
                    ack_deadline: config.ack.deadline,
                }),
                spool: spool_rule(output),
                has_fallback,
            },
            clock: Arc::new(move || clock.now()),
            stats: Arc::default(),
            trouble: Arc::new(move |cause| troubled.set_trouble(id, cause)),
            spool: spool.as_ref().map(|spool| WriterSpool {
                client: spool.client(number == 0),
                wall: clock::wall,
                settings: output.spool.clone().unwrap_or_default(),
            }),
        };
        stats.push(Arc::clone(&settings.stats));
        let config = Arc::clone(&output.sink);
        let start = move || async move { config.start(clock::wall).await };
        let (handle, writer_sink) = writer::spawn(settings, receiver, start)?;
        queues.push(sender);
        handles.push(handle);
        bills.extend(writer_sink.billing_stats());
        sink.get_or_insert(writer_sink);
    }
    let Some(sink) = sink else {
        let output = output.name.clone();
        return Err(writer::StartError::Sink {
            output,
            reason: "it has no writer".into(),
        }
        .into());
    };
    if let Some(stage) = sink.staging_stats() {
        readiness.watch(id, stage);
    }
    readiness.watch_writers(id, stats.clone());
    Ok(RunningOutput {
        name: output.name.clone(),
        queue_bytes_max: output.delivery.queue_bytes_max as u64,
        queues,
        handles,
        stats,
        sink,
        bills,
        spool,
    })
}

/// Starts the spool of an output that has one.
fn start_spool(output: &Output, shares: Shares) -> Result<Option<Spool>, AppError> {
    let Some(settings) = &output.spool else {
        return Ok(None);
    };
    match Spool::start(&output.name, settings, shares, clock::wall) {
        Ok(spool) => Ok(Some(spool)),
        Err(source) => Err(AppError::Spool {
            output: output.name.clone(),
            source,
        }),
    }
}

fn spool_rule(output: &Output) -> Option<SpoolRule> {
    output.spool.as_ref().map(|spool| SpoolRule {
        after: spool.after,
        first: output.timing.ack == AckMode::Durable,
    })
}

/// What metrics and probes tell of.
struct Running<'r> {
    readiness: &'r Arc<Readiness>,
    workers: &'r Workers,
    outputs: &'r [RunningOutput],
    listeners: &'r [Listener],
    suppressed: Option<&'r Arc<SuppressFile>>,
    schemas: &'r Arc<SchemaSet>,
}

/// The admin port, where one is configured.
fn start_admin(config: &Config, clock: Clock, running: &Running<'_>) -> io::Result<Option<Admin>> {
    let Running {
        readiness,
        workers,
        outputs,
        listeners,
        suppressed,
        schemas,
    } = *running;
    let Some(address) = config.admin.address else {
        return Ok(None);
    };
    let source = |output: &RunningOutput| OutputSource {
        name: output.name.clone(),
        queue_bytes_max: output.queue_bytes_max,
        writers: output.stats.clone(),
        bills: output.bills.clone(),
        stage: output.sink.staging_stats(),
        spool: output.spool.as_ref().map(|spool| Arc::clone(spool.stats())),
    };
    let sources = Sources {
        workers: workers.stats.clone(),
        outputs: outputs.iter().map(source).collect(),
        rules: config.routing.names(),
        limits: LimitGauges {
            in_flight_bytes_max: config.ingest.in_flight_bytes_max,
            connections_max: workers.connections_max as u64,
            connections_per_address_max: config.limits.connections_per_source_max as u64,
            body_bytes_max: config.limits.body_bytes_max as u64,
            ack_deadline: config.ack.deadline,
        },
        tls: listeners
            .iter()
            .filter_map(|listener| Some((listener.settings.name.clone(), listener.tls.clone()?)))
            .collect(),
        suppressed: suppressed.cloned(),
        schemas: Arc::clone(schemas),
        readiness: Arc::clone(readiness),
        // Milliseconds after the process started, which is close enough for an alarm.
        started: clock::wall(),
        now: Box::new(move || clock.now()),
        wall: clock::wall,
    };
    let admin = Admin::start(address, HostPolicy::new(&config.admin.hosts), sources)?;
    info!(address = %admin.address(), "metrics and probes");
    Ok(Some(admin))
}

fn start_workers(
    config: &Config,
    clock: Clock,
    drain: &Arc<Drain>,
    outputs: &[RunningOutput],
    listeners: &[Listener],
    suppressed: Option<&SuppressFile>,
    schemas: &SchemaSet,
) -> Result<Workers, AppError> {
    let settings = WorkerSettings {
        listen: config.listen.clone(),
        has_cpu_quota: host_info::has_cpu_quota(),
        memory_bytes: HostInfo::detect().memory_bytes,
        limits: HttpLimits {
            // A body that arrives this late still leaves a quarter of the ack deadline for delivery.
            body_deadline_last: config.limits.body_deadline + config.ack.deadline * 3 / 4,
            ..config.limits
        },
        answers: AnswerSettings {
            cors: CorsPolicy::new(config.cors.origins.clone(), config.cors.max_age),
            retry_after_s: config.ack.retry_after_min_s..=config.ack.retry_after_max_s,
        },
        budget_bytes: config.ingest.in_flight_bytes_max / config.listen.workers as u64,
        listeners: listeners.to_vec(),
        outputs: config.outputs.len(),
        rules: config.routing.names().len(),
        schemas: schemas.loaded().len(),
        clock,
        drain: Arc::clone(drain),
    };
    let ingest = Arc::new(ingest_settings(config, suppressed, schemas)?);
    // Not on the workers: their threads may be pinned, and new threads inherit that.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let offload = Offload::start(cores).map_err(|source| AppError::System {
        what: "start the threads for large bodies",
        source,
    })?;
    let offload = Arc::new(offload);
    let sinks: Vec<_> = outputs
        .iter()
        .map(|output| Arc::clone(&output.sink))
        .collect();
    let queues: Vec<_> = outputs.iter().map(|output| output.queues.clone()).collect();
    let make = move |context: Rc<WorkerContext>| {
        let outputs = Outputs::new(queues.clone());
        drop(monoio::spawn(Rc::clone(&outputs).flush_every_turn()));
        let ingest = Ingest::new(
            Arc::clone(&ingest),
            sinks.clone(),
            outputs,
            Arc::clone(&offload),
            context,
        );
        drop(monoio::spawn(ingest.apply_results()));
        ingest
    };
    Ok(worker::run_workers(&settings, make)?)
}

/// What the cores' ingest needs to know of a configuration.
///
/// # Errors
/// Its rules ask for too much; loading it has told so.
pub(crate) fn ingest_settings(
    config: &Config,
    suppressed: Option<&SuppressFile>,
    schemas: &SchemaSet,
) -> Result<IngestSettings, AppError> {
    let places = places_of(&config.outputs, &config.groups);
    let rules = config.routing.rules(&places)?.map(Arc::new);
    let dead_letters = &config.dead_letters;
    let letters = dead_letters.letters(&places, &config.routing).map(Arc::new);
    let cores = config.listen.workers as u64;
    // At most one rule is configured; the other outputs leave the key to their sink.
    let partition = config
        .outputs
        .iter()
        .map(|output| output.partition_key.clone())
        .find(|rule| *rule != PartitionRule::Random)
        .unwrap_or_default();
    let outputs = config.outputs.iter();
    let outputs = outputs.map(|output| OutputRule {
        is_default: is_default(output, &config.outputs, &config.groups)
            && !dead_letters.go_to(&output.name),
        fallback: output
            .delivery
            .fallback
            .as_ref()
            .and_then(|name| groups::id(&config.outputs, name)),
        ..output_rule(output, cores, config.ack.deadline)
    });
    let groups = config.groups.iter();
    let intake = IntakeSettings {
        ack_deadline: config.ack.deadline,
        retry_after: RetryAfter {
            min_s: config.ack.retry_after_min_s,
            max_s: config.ack.retry_after_max_s,
        },
        outputs: outputs.collect(),
        groups: groups
            .map(|group| GroupRule {
                is_default: !dead_letters.go_to(&group.name),
                ..group.rule(&config.outputs)
            })
            .collect(),
        shares: config.routing.shares(),
    };
    // All outputs with a template have the same one.
    let topics = config.outputs.iter().find_map(topics_of);
    let suppressed = suppressed.map_or_else(Arc::default, |file| Arc::clone(file.list()));
    let plan = |mode, addresses, clash| -> Result<Plan, AppError> {
        let server_fields = config.server_fields.compile(clash)?;
        let settings = &config.privacy;
        let privacy =
            settings.compile(addresses, &config.listeners, &suppressed, &server_fields)?;
        Ok(Plan {
            server_fields,
            privacy,
            topics: topics.clone(),
            rules: rules.clone(),
            letters: letters.clone(),
            schemas: match mode {
                Mode::Envelope => None,
                Mode::Event => schemas.schemas(),
            },
            depth_max: config.ingest.json_depth_max,
            inflated_bytes_max: config.ingest.inflated_bytes_max,
            codings_max: config.ingest.codings_max,
            codings: match mode {
                Mode::Envelope => config.ingest.collect_codings.as_slice().into(),
                Mode::Event => config.ingest.events_codings.as_slice().into(),
            },
            events_max: config.ingest.events_max,
            fake_ip: config.client_address.fake_ip,
            ..Plan::new(mode, partition.clone())
        })
    };
    let (privacy, fields) = (&config.privacy, &config.server_fields);
    Ok(IngestSettings {
        paths: config.paths.clone(),
        logged_addresses: config.privacy.logged_addresses(&config.listeners),
        addresses: AddressPolicy::new(config.client_address.hops),
        admit: Admit::new(&config.admit.app_ids, &config.admit.hosts),
        collect: plan(Mode::Envelope, privacy.collect_addresses, fields.clash)?,
        events: plan(Mode::Event, privacy.events_addresses, fields.clash)?,
        pixel: plan(Mode::Event, privacy.events_addresses, fields.pixel_clash)?,
        body_bytes_max: config.limits.body_bytes_max,
        limiting: dead_letters.limiting(&config.outputs, &config.groups, &config.routing),
        answer_within: config.limits.body_deadline + config.ack.deadline,
        intake,
    })
}

fn output_rule(output: &Output, cores: u64, ack_deadline: Duration) -> OutputRule {
    let class = match output.timing.ack {
        AckMode::Delivered => DeliveryClass::Required,
        AckMode::Durable => DeliveryClass::Durable,
        AckMode::Enqueued => DeliveryClass::BestEffort,
    };
    OutputRule {
        class,
        pending_bytes_max: output.delivery.queue_bytes_max as u64 / cores,
        // Leaves time for the retries of a request's last throttled record.
        adaptive_limit: class.is_awaited().then_some(ack_deadline / 8),
        retry_for: output.timing.retry_for,
        keyed: output.partition_key != PartitionRule::Random,
        by_topic: topics_of(output).is_some(),
        writers: u16::try_from(output.delivery.writers).unwrap_or(u16::MAX),
        home: 0,
        probe_every: output.delivery.circuit_probe_every,
        spools: output.spool.is_some(),
        is_default: true,
        fallback: None,
    }
}

/// The topics its records name, if they name any.
fn topics_of(output: &Output) -> Option<Arc<Topics>> {
    let rule = output.sink.topics()?;
    Some(Arc::new(Topics::new(
        rule.template.clone(),
        rule.topics_max,
    )))
}
