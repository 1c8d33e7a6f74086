//! Schemas from registries: Confluent's, AWS Glue's and Iglu's. Fetches a document, and knows nothing of its contents.

use crate::aws::call::{JsonClient, JsonService};
use crate::aws::{Aws, AwsSettings};
use crate::http_client::{AGENT, HttpClient, tls};
use crate::settings::Secret;
use ::http::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use ::http::{Request, Uri};
use base64_simd::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of an answer: a document of 1 MiB, whose characters may all be escaped.
const ANSWER_BYTES_MAX: usize = 8 << 20;

const GLUE: JsonService = JsonService {
    signing_name: "glue",
    content_type: "application/x-amz-json-1.1",
    throttled: &[],
};
const GET_SCHEMA_VERSION: &str = "AWSGlue.GetSchemaVersion";
/// The header in which servers of Iglu expect their key.
static IGLU_KEY: HeaderName = HeaderName::from_static("apikey");
/// What every schema of Iglu is written in.
const IGLU_DIALECT: &str = "http://json-schema.org/draft-04/schema#";

/// Where a schema is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a server that speaks as Confluent's does.
    Confluent {
        /// The server.
        url: String,
        /// The subject.
        subject: String,
        /// A number; `None` for the latest.
        version: Option<u32>,
        /// Who asks.
        login: Option<(String, Secret)>,
    },
    /// In AWS Glue.
    Glue {
        /// The registry.
        registry: String,
        /// The schema.
        schema: String,
        /// A number; `None` for the latest.
        version: Option<u32>,
    },
    /// At a server of Iglu's, or in a static repository.
    Iglu {
        /// What stands before `/schemas`.
        url: String,
        /// `vendor/name/jsonschema/1-0-0`.
        path: String,
        /// The server's key.
        api_key: Option<Secret>,
    },
}

/// A schema that could not be fetched, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

fn failed(why: impl ToString) -> FetchError {
    FetchError(why.to_string())
}

impl Place {
    /// Fetches the document, in one try that ends in time. `aws` is for Glue.
    ///
    /// # Errors
    /// The registry cannot be reached, has no such schema, or has it in another language than JSON Schema.
    pub async fn fetch(&self, aws: &AwsSettings) -> Result<Vec<u8>, FetchError> {
        match self {
            Place::Confluent {
                url,
                subject,
                version,
                login,
            } => {
                let version = version.map_or_else(|| "latest".to_owned(), |one| one.to_string());
                let subject = escaped(subject);
                let login = login.as_ref().map(|(user, password)| {
                    let text = format!("{user}:{}", password.0);
                    (
                        AUTHORIZATION,
                        format!("Basic {}", BASE64.encode_to_string(text)),
                    )
                });
                let url = format!("{}/subjects/{subject}/versions/{version}", bare(url));
                let answer = get(&url, login, aws.attempt_timeout).await?;
                confluent(&answer)
            }
            Place::Glue {
                registry,
                schema,
                version,
            } => glue(aws, registry, schema, *version).await,
            Place::Iglu { url, path, api_key } => {
                let key = api_key
                    .as_ref()
                    .map(|key| (IGLU_KEY.clone(), key.0.clone()));
                let url = format!("{}/schemas/{path}", bare(url));
                let answer = get(&url, key, aws.attempt_timeout).await?;
                iglu(&answer)
            }
        }
    }
}

fn bare(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// A segment of a path.
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let bytes = text.bytes();
    bytes
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

async fn get(
    url: &str,
    secret: Option<(HeaderName, String)>,
    within: Duration,
) -> Result<Vec<u8>, FetchError> {
    let uri: Uri = url.parse().map_err(failed)?;
    let client = HttpClient::new(&uri, tls(&uri, None).map_err(failed)?, within);
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    // Registries of several formats answer with their own type, unless another is asked for.
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, */*;q=0.1"),
    );
    if let Some((name, secret)) = secret {
        let mut value = HeaderValue::from_str(&secret)
            .map_err(|_| failed("the credentials have characters that no header can have"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let answer = client.send(request, within, ANSWER_BYTES_MAX).await;
    let answer = answer.map_err(failed)?;
    match answer.status.is_success() {
        true => Ok(answer.body),
        false => Err(failed(format!(
            "the registry answered {}",
            answer.status.as_u16()
        ))),
    }
}

fn read(answer: &[u8]) -> Result<Value, FetchError> {
    serde_json::from_slice(answer).map_err(|error| failed(format!("unreadable answer: {error}")))
}

/// The document in an answer, where it stands as a text.
fn inside(answer: &Value, key: &str, format_key: &str) -> Result<Vec<u8>, FetchError> {
    // Confluent's servers leave out the format of Avro's schemas.
    let format = answer[format_key].as_str().unwrap_or("AVRO");
    if format != "JSON" {
        return Err(failed(format!(
            "the schema is in {format}, not in JSON Schema"
        )));
    }
    let text = answer[key].as_str();
    text.map(|text| text.as_bytes().to_vec())
        .ok_or_else(|| failed(format!("the answer has no `{key}`")))
}

fn confluent(answer: &[u8]) -> Result<Vec<u8>, FetchError> {
    let answer = read(answer)?;
    if answer["references"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
    {
        return Err(failed(
            "the schema refers to other subjects: only one that stands alone is fetched",
        ));
    }
    inside(&answer, "schema", "schemaType")
}

async fn glue(
    settings: &AwsSettings,
    registry: &str,
    schema: &str,
    version: Option<u32>,
) -> Result<Vec<u8>, FetchError> {
    let aws = Aws::load(settings, "GLUE", None).await.map_err(failed)?;
    let region = aws
        .config
        .region()
        .map_or_else(String::new, ToString::to_string);
    let given = aws.endpoint_url(settings, "Glue");
    let url = aws
        .endpoint(&region, given.as_deref())
        .url("glue")
        .map_err(failed)?;
    let client = JsonClient::new(&aws, settings, GLUE, &url).map_err(failed)?;
    let number = match version {
        Some(number) => json!({ "VersionNumber": number }),
        None => json!({ "LatestVersion": true }),
    };
    let body = json!({
        "SchemaId": { "RegistryName": registry, "SchemaName": schema },
        "SchemaVersionNumber": number,
    });
    let call = client.call(&aws, GET_SCHEMA_VERSION, Bytes::from(body.to_string()));
    let answer = call.await.map_err(|failure| failed(failure.text))?;
    inside(&read(&answer)?, "SchemaDefinition", "DataFormat")
}

/// Iglu's documents name themselves, and a dialect of Iglu's own, which is draft 4 and that name.
fn iglu(answer: &[u8]) -> Result<Vec<u8>, FetchError> {
    let mut document = read(answer)?;
    let Some(members) = document.as_object_mut() else {
        return Err(failed("the answer is no object"));
    };
    members.remove("self");
    members.insert("$schema".to_owned(), IGLU_DIALECT.into());
    Ok(document.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<Vec<u8>, FetchError>) -> String {
        result.map_or_else(
            |error| error.to_string(),
            |it| String::from_utf8(it).unwrap(),
        )
    }

    #[test]
    fn only_json_schema_that_stands_alone_is_taken() {
        let json = br#"{"schemaType":"JSON","schema":"{\"a\":1}","references":[]}"#;
        assert_eq!(text(confluent(json)), r#"{"a":1}"#);
        for (answer, expected) in [
            (
                &br#"{"schema":"\"string\""}"#[..],
                "the schema is in AVRO, not in JSON Schema",
            ),
            (br#"{"schemaType":"PROTOBUF","schema":""}"#, "in PROTOBUF"),
            (
                br#"{"schemaType":"JSON","schema":"{}","references":[{"name":"a"}]}"#,
                "refers to other",
            ),
            (br#"{"schemaType":"JSON"}"#, "has no `schema`"),
            (b"<html>", "unreadable answer"),
        ] {
            assert!(text(confluent(answer)).contains(expected), "{expected}");
        }
    }

    #[test]
    fn a_document_of_iglu_is_draft_4() {
        let answer =
            br#"{"$schema":"http://iglucentral.com/x","self":{"name":"a"},"type":"object"}"#;
        let expected = json!({"$schema": IGLU_DIALECT, "type": "object"});
        assert_eq!(read(&iglu(answer).unwrap()).unwrap(), expected);
        assert!(text(iglu(b"[]")).contains("no object"));
    }

    #[test]
    fn a_subject_is_one_segment_of_the_path() {
        assert_eq!(escaped("a/b?c-value.é"), "a%2Fb%3Fc-value.%C3%A9");
    }
}
