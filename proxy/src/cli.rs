//! The command line: its arguments, and how they become settings. Runs nothing itself.

pub mod probe;

use crate::config::{Config, ConfigError, Flags};
use crate::host_info::HostInfo;
use crate::replay::letter::Only;
use crate::replay::source::Place;
use crate::runtime::driver::Driver;
use clap::{Args, Parser, Subcommand};
use probe::Target;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Below the options: where the same settings can be written.
const SETTINGS_HELP: &str = "\
Settings: flags win over environment variables, these over the file, the file over the defaults.
  file      TOML with the sections [listen] [limits] [paths] [cors] [client_address] [admit] [ack] [drain] [admin] [log] [routing] [dead_letters] [process] [listeners.<name>] [outputs.<name>] [outputs.<name>.spool] [schemas.<name>] [[routes]] [[tests]]
  variable  SLUICE_<SECTION>__<KEY>, for instance SLUICE_LISTEN__ADDRESS=0.0.0.0:8088
            SLUICE_OUTPUTS__<NAME>__<KEY>, for instance SLUICE_OUTPUTS__MAIN__TYPE=kinesis
`sluice check` prints every setting with its value in force, in the form of a file.
Without any: listens on 127.0.0.1:8088, metrics on 127.0.0.1:9090, writes to ./sluice-data.";

/// Takes clickstream events over HTTP and answers 200 only when the destination has them.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = SETTINGS_HELP, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `sluice` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM, SIGINT or SIGQUIT, then drain
    #[command(after_help = SETTINGS_HELP)]
    Run(Run),
    /// Print the settings in force, and try every destination without writing an event
    #[command(after_help = SETTINGS_HELP)]
    Check(Check),
    /// Look at spools, wait for them, or deliver what lies in one; ends with 0 if nothing is wrong or left, else with 1
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Send the events of dead letters through the door again; ends with 0 if all that were meant were taken, else with 1
    #[command(after_help = SETTINGS_HELP)]
    Replay(Replay),
    /// Say what the rules of a configuration do with events, without sending them
    #[command(after_help = SETTINGS_HELP)]
    Route(Route),
    /// Ask a running proxy whether it is healthy; ends with 0 if so
    Health(Health),
}

/// What to do with a spool.
#[derive(Clone, Debug, Subcommand)]
pub enum SpoolCommand {
    /// Print what lies in each file
    List(SpoolPlace),
    /// The same; ends with 1 if a record is damaged or was refused
    Verify(SpoolPlace),
    /// Print the payload of each record as a line
    Export(SpoolPlace),
    /// Deliver records to an output; nobody else may use the directory
    Replay {
        /// Where settings come from.
        #[command(flatten)]
        settings: Settings,
        /// The output
        #[arg(long, value_name = "OUTPUT")]
        to: String,
        /// The directory, instead of the output's own: for instance from another host's volume
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// Stop after this many seconds; what is left stays on disk
        #[arg(long, value_name = "S")]
        timeout_s: Option<u64>,
    },
    /// Wait until no record is left, for instance before a host goes
    Wait {
        /// Where to look.
        #[command(flatten)]
        place: SpoolPlace,
        /// End with 1 after this many seconds
        #[arg(long, value_name = "S")]
        timeout_s: Option<u64>,
    },
}

impl SpoolCommand {
    /// Where settings come from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        match self {
            SpoolCommand::List(place)
            | SpoolCommand::Verify(place)
            | SpoolCommand::Export(place)
            | SpoolCommand::Wait { place, .. } => &place.settings,
            SpoolCommand::Replay { settings, .. } => settings,
        }
    }
}

/// Which spool.
#[derive(Clone, Debug, Default, Args)]
pub struct SpoolPlace {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// The output whose spool is meant; else those of all outputs
    #[arg(long, value_name = "OUTPUT")]
    pub output: Option<String>,
    /// A directory, instead of those of outputs
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub from: Option<PathBuf>,
}

/// How to serve.
#[derive(Clone, Debug, Default, Args)]
pub struct Run {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// Allow core dumps and debuggers of the same user: both see events and keys
    #[arg(long)]
    pub core_dumps: bool,
}

/// What to try.
#[derive(Clone, Debug, Default, Args)]
pub struct Check {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// Try only ports and directories of this machine, no destination
    #[arg(long)]
    pub offline: bool,
}

/// Which events to try.
#[derive(Clone, Debug, Args)]
pub struct Route {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// A file with events: an object, an array or one object a line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub explain: PathBuf,
    /// The endpoint that they come to: events, pixel, or collect, whose body the file then is
    #[arg(long, value_name = "NAME", default_value = "events", value_parser = ["collect", "events", "pixel"])]
    pub endpoint: String,
    /// The listener
    #[arg(long, value_name = "NAME", default_value = "listen")]
    pub listener: String,
    /// The host that the request names
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The query of the request, without `?`
    #[arg(long, value_name = "QUERY")]
    pub query: Option<String>,
}

/// Which letters to send again, and where.
#[derive(Clone, Debug, Args)]
pub struct Replay {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// A file, a directory, or s3://bucket/prefix, with region, endpoint and credentials of the environment
    #[arg(long, value_name = "PLACE")]
    pub from: Place,
    /// Only letters with this reason, code, schema, route, endpoint or listener; values of one key are alternatives
    #[arg(long, value_name = "KEY=VALUE")]
    pub only: Vec<Only>,
    /// The door, instead of the first listener's endpoint for events
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// How far the replay has come: one that was stopped or killed goes on from there
    #[arg(long, value_name = "FILE", default_value = "sluice-replay.state")]
    pub state: PathBuf,
    /// Count, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Stop after this many seconds; the next replay with this state goes on
    #[arg(long, value_name = "S")]
    pub timeout_s: Option<u64>,
}

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on [listen.address]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// I/O driver: auto, uring or epoll [listen.driver]
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<Driver>,
    /// Listener cores, 0 for all [listen.workers]
    #[arg(long, value_name = "N")]
    pub workers: Option<u64>,
    /// Directory of the one file output [its dir]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Which proxy to ask.
#[derive(Clone, Debug, Args)]
pub struct Health {
    /// The configuration file of the proxy to ask
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    pub config: Option<PathBuf>,
    /// URL to ask, instead of the address in the settings
    #[arg(long, value_name = "URL")]
    pub url: Option<Target>,
}

impl Settings {
    /// Where the settings come from, for the log; flags and variables come on top.
    #[must_use]
    pub fn source(&self) -> String {
        self.config.as_ref().map_or_else(
            || "environment and defaults".to_owned(),
            |file| file.display().to_string(),
        )
    }

    /// The configuration in force on this machine, in this environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        let flags = Flags {
            listen: self.listen,
            driver: self.driver,
            workers: self.workers,
            data_dir: self.data_dir.clone(),
        };
        Config::load(
            self.config.as_deref(),
            env::vars_os(),
            &flags,
            HostInfo::detect(),
        )
    }
}

impl Health {
    /// Which proxy to ask: the URL if there is one, else the address in the settings.
    ///
    /// # Errors
    /// As [`Config::load`], where the settings are needed.
    pub fn target(&self) -> Result<Target, ConfigError> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let settings = Settings {
            config: self.config.clone(),
            ..Settings::default()
        };
        let config = settings.load()?;
        Ok(Target::of(
            config.listen.address,
            &config.paths.health,
            config.listen.proxy_protocol,
            config
                .listeners
                .first()
                .is_some_and(|first| first.tls.is_some()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn kind(arguments: &[&str]) -> Option<ErrorKind> {
        let arguments = ["sluice"].iter().chain(arguments);
        Cli::try_parse_from(arguments)
            .err()
            .map(|error| error.kind())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn alone_it_shows_help() {
        assert_eq!(
            kind(&[]),
            Some(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
        );
    }

    #[test]
    fn help_names_every_section_and_command() {
        let help = Cli::command().render_long_help().to_string();
        for part in [
            "[listen]",
            "[limits]",
            "[paths]",
            "[cors]",
            "[client_address]",
            "[admit]",
            "[ack]",
            "[drain]",
            "[admin]",
            "[log]",
            "[process]",
            "[routing]",
            "[dead_letters]",
            "[[routes]]",
            "[[tests]]",
            "[listeners.<name>]",
            "[outputs.<name>]",
            "[schemas.<name>]",
            "run",
            "check",
            "route",
            "replay",
            "health",
            "spool",
        ] {
            assert!(help.contains(part), "{part} is not in\n{help}");
        }
    }

    #[test]
    fn flags_are_taken_by_run_and_check() {
        for command in ["run", "check"] {
            let cli = Cli::try_parse_from([
                "sluice",
                command,
                "--config",
                "f",
                "--listen",
                "[::1]:80",
                "--driver",
                "epoll",
                "--workers",
                "2",
                "--data-dir",
                "d",
            ])
            .unwrap();
            let settings = match cli.command {
                Command::Run(run) => run.settings,
                Command::Check(check) => check.settings,
                Command::Health(_) | Command::Spool(_) | Command::Replay(_) | Command::Route(_) => {
                    panic!("{command}")
                }
            };
            assert_eq!(settings.config, Some("f".into()));
            assert_eq!(settings.listen, Some("[::1]:80".parse().unwrap()));
            assert_eq!(settings.driver, Some(Driver::Epoll));
            assert_eq!(settings.workers, Some(2));
            assert_eq!(settings.data_dir, Some("d".into()));
        }
    }

    #[test]
    fn ill_formed_and_unknown_arguments_are_refused() {
        for (arguments, expected) in [
            (["run", "--driver", "kqueue"], ErrorKind::ValueValidation),
            (["run", "--workers", "-1"], ErrorKind::UnknownArgument),
            (["run", "--workers", "many"], ErrorKind::ValueValidation),
            (["run", "--listen", "8088"], ErrorKind::ValueValidation),
            (["run", "--port", "8088"], ErrorKind::UnknownArgument),
            (["health", "--url", "ftp://a/"], ErrorKind::ValueValidation),
            (["serve", "", ""], ErrorKind::InvalidSubcommand),
        ] {
            assert_eq!(kind(&arguments), Some(expected), "{arguments:?}");
        }
    }
}
