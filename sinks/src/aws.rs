//! Shared by all AWS sinks: configuration, credentials fetched ahead of need, and the one table from errors to
//! [`Cause`] and record results. Knows no service.

pub(crate) mod call;
pub(crate) mod cbor;
pub(crate) mod endpoint;
pub(crate) mod json;
#[cfg(test)]
pub(crate) mod script;
#[cfg(any(test, feature = "aws-sdk"))]
mod sdk;
mod settings;
pub(crate) mod signed;

pub use settings::{AwsClient, AwsSettings};
pub(crate) use settings::{BATCH_BYTES_MIN, HAS_SDK, is_region, is_stream};

use crate::http_client::chain_text;
use crate::sink::CheckError;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, future::ProvideCredentials as Provided,
};
use aws_types::service_config::ServiceConfigKey;
use endpoint::Endpoint;
use sluice_core::cause::Cause;
use sluice_core::civil::LAST_SECOND;
use sluice_core::record::RecordResult;
use std::error::Error;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How often credentials are looked at.
const CREDENTIALS_LOOK: Duration = Duration::from_secs(60);
/// How long before their end credentials are replaced. The metadata services hand out new ones at
/// least five minutes before that.
const CREDENTIALS_AHEAD: Duration = Duration::from_secs(600);
/// The wait after a fetch that failed while there are no credentials at all, and the least wait
/// between two fetches that a refused call asked for.
const CREDENTIALS_AGAIN: Duration = Duration::from_secs(5);
/// A source of credentials that takes longer is tried again later. The chain's own limits end
/// sooner in most cases.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for credentials at start: without them the sink starts and says so.
const CREDENTIALS_START: Duration = Duration::from_secs(5);
/// The longest wait for the instance's metadata service to name the region.
const REGION_TIMEOUT: Duration = Duration::from_secs(5);
/// Signed for where an endpoint is given and no region: emulators do not look.
const REGION_OF_ENDPOINT: &str = "us-east-1";
/// An error's text is cut here before it goes to a log.
const ERROR_TEXT_CHARS: usize = 300;

/// A configuration for clients, and the task that keeps its credentials fresh while this lives.
pub(crate) struct Aws {
    pub(crate) config: SdkConfig,
    credentials: Arc<WarmCredentials>,
    _refresh: Task,
}

impl Aws {
    /// Finds region, endpoint and credentials the standard way, or takes `credentials` from the given
    /// provider. `service` is the name in `AWS_ENDPOINT_URL_<service>`. Missing credentials are no error.
    pub(crate) async fn load(
        settings: &AwsSettings,
        service: &str,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Aws, String> {
        if let Some(problem) = settings.out_of_bounds() {
            return Err(problem.to_string());
        }
        let region = region(settings, service)
            .await
            .ok_or("no region: set it in the configuration, in AWS_REGION or in the AWS profile")?;
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region)
            // Which record to send again is the writer's decision; the SDK sees only whole calls.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(settings.connect_timeout)
                    .operation_attempt_timeout(settings.attempt_timeout)
                    .operation_timeout(settings.attempt_timeout)
                    .build(),
            );
        if let Some(endpoint_url) = &settings.endpoint_url {
            loader = loader.endpoint_url(endpoint_url);
        }
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        let config = loader.load().await;
        let source = config
            .credentials_provider()
            .ok_or("no credentials provider in the SDK's configuration")?;
        let credentials = Arc::new(WarmCredentials {
            source,
            held: RwLock::new(None),
            doubted: Notify::new(),
        });
        if timeout(CREDENTIALS_START, credentials.fetch())
            .await
            .is_err()
        {
            warn!("no AWS credentials yet: the search for them goes on");
        }
        let refresh = Task(tokio::spawn(Arc::clone(&credentials).keep_warm()));
        let config = config
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(SharedProvider(Arc::clone(
                &credentials,
            ))))
            // The SDK's cache fetches in line with a call when credentials near their end.
            .identity_cache(IdentityCache::no_cache())
            .build();
        Ok(Aws {
            config,
            credentials,
            _refresh: refresh,
        })
    }

    /// The endpoint that settings, environment or profile name for a service, as the SDK's client of it
    /// finds it.
    pub(crate) fn endpoint_url(&self, settings: &AwsSettings, service_id: &str) -> Option<String> {
        let general = self.config.endpoint_url().map(str::to_owned);
        if settings.endpoint_url.is_some() {
            return general;
        }
        let key = ServiceConfigKey::builder()
            .service_id(service_id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok();
        let own = key.and_then(|key| self.config.service_config()?.load_config(key));
        own.or(general)
    }

    /// What decides where a service is; `given` is its [`Aws::endpoint_url`].
    pub(crate) fn endpoint<'a>(&self, region: &'a str, given: Option<&'a str>) -> Endpoint<'a> {
        Endpoint {
            region,
            given,
            fips: self.config.use_fips().unwrap_or(false),
            dual_stack: self.config.use_dual_stack().unwrap_or(false),
        }
    }

    /// The credentials of now, for calls that the SDK does not make.
    pub(crate) fn held_credentials(&self) -> Option<Credentials> {
        self.credentials.held()
    }

    /// Tells that a call was refused for its credentials: they are fetched again soon.
    pub(crate) fn doubt_credentials(&self) {
        self.credentials.doubted.notify_one();
    }
}

/// Enough of a look to catch a forgotten scheme; the SDK would only fail each call, and say little.
async fn region(settings: &AwsSettings, service: &str) -> Option<Region> {
    let has_endpoint = settings.endpoint_url.is_some()
        || std::env::var_os("AWS_ENDPOINT_URL").is_some()
        || std::env::var_os(format!("AWS_ENDPOINT_URL_{service}")).is_some();
    let chain = RegionProviderChain::first_try(settings.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    if let Some(region) = chain.region().await {
        return Some(region);
    }
    if has_endpoint {
        return Some(Region::from_static(REGION_OF_ENDPOINT));
    }
    let instance = ImdsRegionProvider::builder().build();
    timeout(REGION_TIMEOUT, instance.region()).await.ok()?
}

/// A task that ends with its owner.
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Credentials that a timer fetches, so that no call waits for a metadata service, and that go on
/// being used when it fails: whether they are still valid is for the destination to say.
#[derive(Debug)]
struct WarmCredentials {
    source: SharedCredentialsProvider,
    held: RwLock<Option<Credentials>>,
    doubted: Notify,
}

impl WarmCredentials {
    /// None while the wall clock is beyond the year 9999: the SDK would panic on the date that it signs.
    fn held(&self) -> Option<Credentials> {
        if !is_signable(SystemTime::now()) {
            return None;
        }
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn fetch(&self) {
        if !is_signable(SystemTime::now()) {
            warn!("the wall clock reads a year beyond 9999, no AWS call can be signed");
            return;
        }
        match timeout(CREDENTIALS_TIMEOUT, self.source.provide_credentials()).await {
            Ok(Ok(credentials)) => {
                let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                if held.is_none() {
                    info!("AWS credentials found");
                }
                *held = Some(credentials);
            }
            Ok(Err(error)) => {
                let error = cut(&chain_text(&error));
                warn!(
                    held = self.held().is_some(),
                    error, "no new AWS credentials"
                );
            }
            Err(_) => {
                let waited_s = CREDENTIALS_TIMEOUT.as_secs();
                warn!(
                    held = self.held().is_some(),
                    waited_s, "no new AWS credentials in time"
                );
            }
        }
    }

    async fn keep_warm(self: Arc<Self>) {
        loop {
            let look = match self.held() {
                Some(_) => CREDENTIALS_LOOK,
                None => CREDENTIALS_AGAIN,
            };
            let is_doubted = tokio::select! {
                () = sleep(look) => false,
                () = self.doubted.notified() => true,
            };
            if is_doubted || is_due(self.held().as_ref(), SystemTime::now()) {
                self.fetch().await;
            }
            if is_doubted {
                sleep(CREDENTIALS_AGAIN).await;
            }
        }
    }
}

/// Whether the SDK can write this date.
fn is_signable(now: SystemTime) -> bool {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(true, |since| since.as_secs() <= LAST_SECOND)
}

/// Credentials without an end are read again at each look: someone may have replaced the file.
fn is_due(held: Option<&Credentials>, now: SystemTime) -> bool {
    match held.map(Credentials::expiry) {
        None | Some(None) => true,
        Some(Some(end)) => end
            .duration_since(now)
            .map_or(true, |left| left < CREDENTIALS_AHEAD),
    }
}

/// The credentials provider of the SDK's clients.
#[derive(Debug)]
struct SharedProvider(Arc<WarmCredentials>);

impl ProvideCredentials for SharedProvider {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::ready(
            self.0
                .held()
                .ok_or_else(|| CredentialsError::not_loaded("no AWS credentials were found yet")),
        )
    }
}

/// Why a whole call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallFailure {
    pub(crate) cause: Cause,
    /// Other credentials might be taken: these were refused, or there were none.
    pub(crate) is_auth_error: bool,
    /// For a log; bounded.
    pub(crate) text: String,
}

impl CallFailure {
    /// A call that could not even be made.
    pub(crate) fn not_sent(error: &(dyn Error + 'static)) -> CallFailure {
        CallFailure {
            cause: Cause::Unavailable,
            is_auth_error: false,
            text: cut(&chain_text(error)),
        }
    }

    /// The same, as the error of a check.
    pub(crate) fn of_check(self, destination: String) -> CheckError {
        CheckError {
            destination,
            reason: format!("{} ({})", self.text, self.cause.label()),
        }
    }

    /// The result of each record of the call, of which there were `records`.
    pub(crate) fn result(&self, records: usize) -> RecordResult {
        match self.cause {
            Cause::Invalid if records == 1 => RecordResult::Refused(Cause::Invalid),
            // Of several records one may have spoiled the call: which one shows when each is sent alone.
            cause => RecordResult::Retry(cause),
        }
    }
}

/// A successful answer that cannot be read: what it would have said is unknown.
pub(crate) fn unreadable(error: &dyn Display) -> CallFailure {
    CallFailure {
        cause: Cause::Unknown,
        is_auth_error: false,
        text: cut(&format!("200 with an unreadable body: {error}")),
    }
}

/// The result for a record from its entry in a response; `is_stored`: it has an id; `throttled` are the codes that ask
/// for less. A count of failures beside the entries is not looked at: it can only contradict.
pub(crate) fn result_of_entry(
    is_stored: bool,
    error_code: Option<&str>,
    throttled: &[&str],
) -> RecordResult {
    match (is_stored, error_code) {
        (true, None) => RecordResult::Delivered,
        (false, Some(code)) if throttled.contains(&code) => RecordResult::Retry(Cause::Throttled),
        (false, Some(_)) => RecordResult::Retry(Cause::Unavailable),
        // Both or neither: unreadable.
        (true, Some(_)) | (false, None) => RecordResult::Retry(Cause::Unknown),
    }
}

/// Names as the services' models and the common errors list of AWS have them.
pub(crate) fn cause_of_answer(code: &str, status: u16) -> (Cause, bool) {
    match code {
        "ProvisionedThroughputExceededException"
        | "KmsThrottled"
        | "LimitExceededException"
        | "OverLimit"
        | "KMSThrottlingException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException" => (Cause::Throttled, false),
        "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => (Cause::Denied, true),
        "AccessDenied"
        | "AccessDeniedException"
        | "InvalidSecurity"
        | "KMSAccessDeniedException"
        | "KmsAccessDenied"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired"
        | "RequestTimeTooSkewed" => (Cause::Denied, false),
        "AWS.SimpleQueueService.NonExistentQueue"
        | "InvalidAddress"
        | "QueueDoesNotExist"
        | "ResourceNotFoundException" => (Cause::NotFound, false),
        "InternalFailure"
        | "InternalFailureException"
        | "InternalServerError"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired"
        | "ResourceInUseException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => (Cause::Unavailable, false),
        "BadDigest"
        | "BatchRequestTooLong"
        | "EntityTooLarge"
        | "InvalidArgumentException"
        | "InvalidDigest"
        | "InvalidMessageContents"
        | "InvalidParameterValue"
        | "KeyTooLongError"
        | "MissingParameter"
        | "SerializationException"
        | "ValidationException" => (Cause::Invalid, false),
        // Proxies and emulators answer without a code, and services learn new ones. None of these is
        // taken as the refusal of a record, except 413.
        _ => match status {
            429 => (Cause::Throttled, false),
            401 | 403 => (Cause::Denied, false),
            404 => (Cause::NotFound, false),
            413 => (Cause::Invalid, false),
            // A gateway lost the service's response.
            502 | 504 => (Cause::Unknown, false),
            400..=599 => (Cause::Unavailable, false),
            _ => (Cause::Unknown, false),
        },
    }
}

pub(crate) fn cut(text: &str) -> String {
    text.chars().take(ERROR_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    fn ending_in(secs: u64, now: SystemTime) -> Credentials {
        Credentials::new(
            "id",
            "secret",
            None,
            Some(now + Duration::from_secs(secs)),
            "test",
        )
    }

    #[test]
    fn credentials_are_refreshed_ten_minutes_before_expiry() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(is_due(None, now));
        assert!(is_due(
            Some(&Credentials::new("id", "secret", None, None, "test")),
            now
        ));
        assert!(!is_due(Some(&ending_in(600, now)), now));
        assert!(is_due(Some(&ending_in(599, now)), now));
        let later = now + Duration::from_secs(10_000);
        assert!(is_due(Some(&ending_in(600, now)), later), "past its end");
    }

    #[test]
    fn an_unknown_error_code_falls_back_to_the_status() {
        for (code, status, cause) in [
            ("", 503, Cause::Unavailable),
            ("SlowDown", 503, Cause::Throttled),
            ("", 429, Cause::Throttled),
            ("", 403, Cause::Denied),
            ("", 404, Cause::NotFound),
            ("", 413, Cause::Invalid),
            ("FreshlyInventedException", 400, Cause::Unavailable),
            ("FreshlyInventedException", 500, Cause::Unavailable),
            ("", 502, Cause::Unknown),
            ("", 504, Cause::Unknown),
            ("", 302, Cause::Unknown),
            ("", 200, Cause::Unknown),
        ] {
            assert_eq!(cause_of_answer(code, status).0, cause, "{code} {status}");
        }
    }

    #[test]
    fn refused_credentials_are_fetched_again() {
        assert_eq!(
            cause_of_answer("ExpiredTokenException", 400),
            (Cause::Denied, true)
        );
        assert_eq!(
            cause_of_answer("AccessDeniedException", 400),
            (Cause::Denied, false)
        );
    }

    /// Answers by script, then fails.
    #[derive(Debug)]
    struct Scripted(Mutex<VecDeque<Option<&'static str>>>);

    impl ProvideCredentials for Scripted {
        fn provide_credentials<'a>(&'a self) -> Provided<'a>
        where
            Self: 'a,
        {
            let id = self.0.lock().unwrap().pop_front().flatten();
            Provided::ready(
                id.map(|id| Credentials::new(id, "secret", None, None, "test"))
                    .ok_or_else(|| CredentialsError::not_loaded("none planned")),
            )
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_kept_when_the_source_fails() {
        let plan = [None, None, Some("one"), None, Some("two")];
        let warm = Arc::new(WarmCredentials {
            source: SharedCredentialsProvider::new(Scripted(Mutex::new(plan.into()))),
            held: RwLock::new(None),
            doubted: Notify::new(),
        });
        let _refresh = Task(tokio::spawn(Arc::clone(&warm).keep_warm()));
        let mut seen = Vec::new();
        // Half a second off the timer's own instants; the clock is a paused one.
        sleep(Duration::from_millis(500)).await;
        for wait_s in [5, 5, 5, 60, 60, 60] {
            sleep(Duration::from_secs(wait_s)).await;
            seen.push(warm.held().map(|held| held.access_key_id().to_owned()));
        }
        let seen: Vec<_> = seen.iter().map(Option::as_deref).collect();
        let (one, two) = (Some("one"), Some("two"));
        assert_eq!(seen, [None, None, one, one, two, two]);
    }

    #[test]
    fn a_long_error_text_is_cut() {
        assert_eq!(cut(&"é".repeat(10_000)).chars().count(), ERROR_TEXT_CHARS);
    }
}
