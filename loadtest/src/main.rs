//! `sluice-loadtest`: arguments, then one of its tools. Exit code 0 when what was asked holds,
//! 1 when it does not, 2 for bad arguments.

#![forbid(unsafe_code)]

mod progress;

use clap::Parser;
use progress::ProgressView;
use serde::Serialize;
use sluice_loadtest::audit::audit_by_window;
use sluice_loadtest::cli::{AuditArgs, Cli, Command, FindMaxArgs, KinesisArgs, PlanArgs, RunArgs};
use sluice_loadtest::find_max::find_max;
use sluice_loadtest::kinesis::Emulator;
use sluice_loadtest::plan::{Plan, PlanError, Prices, plan};
use sluice_loadtest::run::{RunError, run};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
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
        Command::Kinesis(args) => run_kinesis(args),
        Command::Run(args) => run_load(&args),
        Command::FindMax(args) => run_find_max(&args),
        Command::Audit(args) => run_audit(&args),
        Command::Plan(args) => run_plan(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            let of_run = error.downcast_ref::<RunError>();
            // What cannot be planned was asked wrongly.
            match error.is::<PlanError>() || of_run.is_some_and(RunError::is_bad_argument) {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn run_kinesis(args: KinesisArgs) -> Result<bool, Box<dyn Error>> {
    let (_runtime, mut stop) = stop_signals()?;
    let emulator = Emulator::start(args.options())?;
    print(&format!("listening on {}", emulator.addr()))?;
    emulator.run_until(async {
        // An error means that nobody watches for signals any more; then it ends too.
        let _ = stop.wait_for(|stop| *stop).await;
    })?;
    Ok(true)
}

fn run_load(args: &RunArgs) -> Result<bool, Box<dyn Error>> {
    let options = args.options();
    let (_runtime, stop) = stop_flag()?;
    let view = ProgressView::new(&options);
    let report = run(&options, &stop, |progress| view.show(progress));
    view.finish();
    let report = report?;
    print(&report.to_string())?;
    write_json(args.json.as_deref(), &report)?;
    if report.answered == 0 {
        complain("no request was answered");
        return Ok(false);
    }
    if args.expect_all_ok && !report.all_ok() {
        complain("not every request was answered 200 with all its events accepted");
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
    print(&found.to_string())?;
    write_json(args.json.as_deref(), &found)?;
    if found.highest.is_none() {
        complain("no rate was found and confirmed to meet the objective");
    }
    Ok(found.highest.is_some())
}

fn run_audit(args: &AuditArgs) -> Result<bool, Box<dyn Error>> {
    let source = args
        .source()
        .ok_or("name one of --dir, --ledger and --kinesis")?;
    let report = audit_by_window(&args.acks, &source, args.window)?;
    print(&report.to_string())?;
    write_json(args.json.as_deref(), &report)?;
    Ok(report.holds())
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
    let texts: Vec<String> = plans.iter().map(Plan::to_string).collect();
    print(&texts.join("\n\n"))?;
    write_json(args.json.as_deref(), &plans)?;
    Ok(true)
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

fn complain(text: &str) {
    // When stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "sluice-loadtest: {text}");
}

fn write_json(path: Option<&Path>, report: &impl Serialize) -> Result<(), Box<dyn Error>> {
    if let Some(path) = path {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
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
