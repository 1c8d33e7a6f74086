//! `sluice-loadtest`: arguments, then one of its tools. Exit code 0 when what was asked holds,
//! 1 when it does not, 2 for bad arguments.

#![forbid(unsafe_code)]

mod progress;

use clap::Parser;
use progress::ProgressView;
use serde::Serialize;
use sluice_loadtest::audit::{audit_by_window, wait_for_end};
use sluice_loadtest::cli::{
    AuditArgs, Cli, Command, CompareArgs, FindMaxArgs, FirehoseArgs, KinesisArgs, OneArgs,
    PatienceArgs, PlanArgs, ReportArgs, RunArgs, S3Args, SeveralArgs, SqsArgs,
};
use sluice_loadtest::find_max::find_max;
use sluice_loadtest::patience;
use sluice_loadtest::plan::{Plan, PlanError, Prices, plan};
use sluice_loadtest::report;
use sluice_loadtest::run::{RunError, run};
use sluice_loadtest::{firehose, kinesis, s3, sqs};
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Firehose(args) => run_firehose(*args),
        Command::Kinesis(args) => run_kinesis(*args),
        Command::S3(args) => run_s3(*args),
        Command::Sqs(args) => run_sqs(*args),
        Command::Run(args) => run_load(&args),
        Command::FindMax(args) => run_find_max(&args),
        Command::Patience(args) => run_patience(&args),
        Command::Audit(args) => run_audit(&args),
        Command::Report(args) => run_report(&args),
        Command::Plan(args) => run_plan(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            let of_run = error.downcast_ref::<RunError>();
            // Input that cannot be planned is a bad argument.
            match error.is::<PlanError>() || of_run.is_some_and(RunError::is_bad_argument) {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run_firehose(args: FirehoseArgs) -> Result<bool, Box<dyn Error>> {
    let (_runtime, stop) = stop_signals()?;
    let emulator = firehose::Emulator::start(args.options()?)?;
    say_ready(emulator.addr(), emulator.tls())?;
    emulator.run_until(stopped(stop))?;
    Ok(true)
}

fn run_kinesis(args: KinesisArgs) -> Result<bool, Box<dyn Error>> {
    let (_runtime, stop) = stop_signals()?;
    let emulator = kinesis::Emulator::start(args.options()?)?;
    say_ready(emulator.addr(), emulator.tls())?;
    emulator.run_until(stopped(stop))?;
    Ok(true)
}

fn run_s3(args: S3Args) -> Result<bool, Box<dyn Error>> {
    let (_runtime, stop) = stop_signals()?;
    let emulator = s3::Emulator::start(args.options()?)?;
    say_ready(emulator.addr(), emulator.tls())?;
    emulator.run_until(stopped(stop))?;
    Ok(true)
}

fn run_sqs(args: SqsArgs) -> Result<bool, Box<dyn Error>> {
    let (_runtime, stop) = stop_signals()?;
    let emulator = sqs::Emulator::start(args.options()?)?;
    say_ready(emulator.addr(), emulator.tls())?;
    emulator.run_until(stopped(stop))?;
    Ok(true)
}

/// The first line is always the plain port's: scripts read it.
fn say_ready(addr: SocketAddr, tls: Option<(SocketAddr, &str)>) -> io::Result<()> {
    print(&format!("listening on {addr}"))?;
    match tls {
        Some((addr, _)) => print(&format!("listening on {addr} with TLS")),
        None => Ok(()),
    }
}

/// Waits for a signal.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that signals are no longer watched; then it ends too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn run_load(args: &RunArgs) -> Result<bool, Box<dyn Error>> {
    let options = args.options();
    let (_runtime, stop) = stop_flag()?;
    let view = ProgressView::new(&options);
    let report = run(&options, &stop, |progress| view.show(progress));
    view.finish();
    let report = report?;
    tell(args.json.as_deref(), &report, &report.to_string())?;
    if report.answered == 0 {
        complain("no request was answered");
        return Ok(false);
    }
    if args.expect_all_ok && !report.all_ok() {
        complain(&format!(
            "not every request was answered {} with all its events accepted: {} of {} failed, {} of \
             these never sent",
            report.load.ok,
            report.due().saturating_sub(report.ok),
            report.due(),
            report.unsent
        ));
        return Ok(false);
    }
    Ok(true)
}

fn run_find_max(args: &FindMaxArgs) -> Result<bool, Box<dyn Error>> {
    let options = args.options();
    let (_runtime, stop) = stop_flag()?;
    let view = ProgressView::of_probes(&options);
    let mut printed = Ok(());
    let found = find_max(
        &options,
        &stop,
        |probe| {
            view.quiet(|| printed = print(&probe.to_string()));
            if printed.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        },
        |progress| view.show(progress),
    );
    view.finish();
    printed?;
    let found = found?;
    tell(args.json.as_deref(), &found, &found.to_string())?;
    if found.highest.is_none() {
        complain("no rate was found and confirmed to meet the objective");
    }
    Ok(found.highest.is_some())
}

fn run_patience(args: &PatienceArgs) -> Result<bool, Box<dyn Error>> {
    let (_runtime, stop) = stop_flag()?;
    let report = patience::play(&args.options(), &stop)?;
    tell(args.json.as_deref(), &report, &report.to_string())?;
    Ok(true)
}

fn run_audit(args: &AuditArgs) -> Result<bool, Box<dyn Error>> {
    let source = args
        .source()
        .ok_or("name one of --dir, --ledger and --kinesis")?;
    if !args.wait.is_zero() {
        wait_for_end(&args.acks, &source, args.wait)?;
    }
    let report = audit_by_window(&args.acks, &source, args.window)?;
    tell(args.json.as_deref(), &report, &report.to_string())?;
    Ok(report.holds())
}

fn run_report(args: &ReportArgs) -> Result<bool, Box<dyn Error>> {
    match &args.several {
        Some(SeveralArgs::Compare(args)) => compare_runs(args),
        None => report_run(&args.one),
    }
}

fn report_run(args: &OneArgs) -> Result<bool, Box<dyn Error>> {
    let (Some(run), Some(out)) = (&args.run, &args.out) else {
        return Err("--run and --out are needed".into());
    };
    let inputs = [Some(run), args.audit.as_ref(), args.stats.as_ref()];
    keep_inputs(
        inputs.into_iter().flatten(),
        [Some(out), args.json.as_ref()],
    )?;
    let findings = report::findings(run, args.audit.as_deref(), args.stats.as_deref())?;
    write_page(out, &report::page(&findings)?)?;
    let wrote = format!("wrote {}", out.display());
    tell(args.json.as_deref(), &findings, &wrote)?;
    Ok(true)
}

fn compare_runs(args: &CompareArgs) -> Result<bool, Box<dyn Error>> {
    let variants = args.all();
    let inputs = variants.iter().flat_map(|variant| &variant.files);
    keep_inputs(inputs, [Some(&args.out), args.json.as_ref()])?;
    let comparison = report::compare(&variants)?;
    write_page(&args.out, &report::compare_page(&comparison)?)?;
    tell(args.json.as_deref(), &comparison, &comparison.to_string())?;
    let mut failures = Vec::new();
    for condition in &args.fail_if {
        failures.extend(condition.failures(&comparison)?);
    }
    failures.iter().for_each(|failure| complain(failure));
    Ok(failures.is_empty())
}

/// Refuses to write a file that is also read.
fn keep_inputs<'a>(
    inputs: impl Iterator<Item = &'a PathBuf>,
    outputs: [Option<&PathBuf>; 2],
) -> Result<(), String> {
    // A file that does not exist has no canonical path, and cannot be overwritten.
    let known = |path: &PathBuf| path.canonicalize().ok();
    let inputs: Vec<PathBuf> = inputs.filter_map(known).collect();
    for output in outputs.into_iter().flatten() {
        if known(output).is_some_and(|output| inputs.contains(&output)) {
            return Err(format!(
                "{}: would overwrite what is read",
                output.display()
            ));
        }
    }
    Ok(())
}

fn write_page(out: &Path, page: &str) -> Result<(), String> {
    std::fs::write(out, page).map_err(|error| format!("{}: {error}", out.display()))
}

fn run_plan(args: &PlanArgs) -> Result<bool, Box<dyn Error>> {
    if args.print_prices {
        print(Prices::BUILT_IN.trim_end())?;
        return Ok(true);
    }
    let (prices, file) = args.price_table()?;
    let inputs = args.inputs()?;
    let plans = inputs.iter().map(|input| plan(input, &prices, &file));
    let plans = plans.collect::<Result<Vec<Plan>, PlanError>>()?;
    let text = |plan: &Plan| match args.explain {
        true => format!("{plan}\n\n{}", plan.explain()),
        false => plan.to_string(),
    };
    let texts: Vec<String> = plans.iter().map(text).collect();
    tell(args.json.as_deref(), &plans, &texts.join("\n\n"))?;
    Ok(true)
}

/// Prints a line. A reader that closes early, as `head` does, is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn complain(text: &str) {
    // When stderr is gone, there is nowhere left to report it.
    let _ = writeln!(io::stderr(), "sluice-loadtest: {text}");
}

/// Prints a result as JSON, if asked, and as text. The file comes first, so that it does not depend on
/// who reads stdout. With `-` the JSON has stdout to itself and the text goes to stderr.
fn tell(json: Option<&Path>, report: &impl Serialize, text: &str) -> Result<(), Box<dyn Error>> {
    let Some(path) = json else {
        return Ok(print(text)?);
    };
    let mut json = serde_json::to_string_pretty(report)?;
    if path.as_os_str() == "-" {
        // When stderr is gone, there is nowhere left to report it.
        let _ = writeln!(io::stderr(), "{text}");
        return Ok(print(&json)?);
    }
    json.push('\n');
    std::fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(print(text)?)
}

/// A flag that SIGINT and SIGTERM set, as long as the runtime lives.
fn stop_flag() -> io::Result<(Runtime, Arc<AtomicBool>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let for_signal = Arc::clone(&stop);
    let (runtime, mut signalled) = stop_signals()?;
    runtime.spawn(async move {
        let _ = signalled.wait_for(|stop| *stop).await;
        for_signal.store(true, Ordering::Relaxed);
    });
    Ok((runtime, stop))
}

/// Watches for SIGINT and SIGTERM from now on, as long as the runtime lives.
fn stop_signals() -> io::Result<(Runtime, watch::Receiver<bool>)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()?;
    let (told, stop) = watch::channel(false);
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.send_replace(true);
    });
    Ok((runtime, stop))
}
