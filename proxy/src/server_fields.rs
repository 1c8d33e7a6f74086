//! What Sluice writes into events, as it is configured. `core::server_fields` says what the words mean.

use sluice_core::server_fields::{Clash, NameError, ServerField, ServerFields, is_name};
use sluice_sinks::settings::{Problem, Reader, text, word};
use sluice_sinks::{keyword_enum, settings};
use std::sync::Arc;

/// The section.
pub const SECTION: &str = "server_fields";

const NAME: &str = "1 to 64 of A-Z, a-z, 0-9, _, -, $, @ and :";
const PREFIX: &str = "1 to 32 of A-Z, a-z, 0-9, _, -, $, @ and :";

settings! {
    /// What is written into each event of `paths.events` and `paths.pixel`, under which names. `off` leaves a field
    /// out.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ServerFieldSettings from (reader) {
        /// When the request came, in Unix milliseconds.
        ingest_time: Option<String> = usual(ServerField::IngestTime), text(NAME, is_name).or_off();
        /// The id of the request, which its answer has as `X-Request-ID`.
        request_id: Option<String> = usual(ServerField::RequestId), text(NAME, is_name).or_off();
        /// The client's address.
        address: Option<String> = usual(ServerField::Address), text(NAME, is_name).or_off();
        /// The client's User-Agent, if it names one.
        user_agent: Option<String> = usual(ServerField::UserAgent), text(NAME, is_name).or_off();
        /// Whether the client sends `Sec-GPC: 1`, if it does.
        gpc: Option<String> = usual(ServerField::Gpc), text(NAME, is_name).or_off();
        /// What the client says in `DNT`, if it does.
        dnt: Option<String> = usual(ServerField::Dnt), text(NAME, is_name).or_off();
        /// Whether the client sends `SP-Anonymous`, if it does.
        sp_anonymous: Option<String> = usual(ServerField::SpAnonymous), text(NAME, is_name).or_off();
        /// The event's place in its body, from 0.
        index: Option<String> = None, text(NAME, is_name).or_off();
        /// Whose field stays where an event of `paths.events` has one of these names: the `server`'s, so that no client
        /// can forge it, the `client`'s, or both, the server's under the same name with `prefix` before it.
        clash: ClashSetting = ClashSetting::Server, word::<ClashSetting>();
        /// The same for `paths.pixel`.
        pixel_clash: ClashSetting = clash, word::<ClashSetting>().default_is("`clash`");
        /// What stands before each name of the server's where `clash` or `pixel_clash` is `prefix`. No client can forge
        /// those fields either.
        prefix: String = "server_".to_owned(), text(PREFIX, |prefix| is_name(prefix) && prefix.len() <= 32);
    }
}

fn usual(field: ServerField) -> Option<String> {
    Some(field.usual_name().to_owned())
}

keyword_enum! {
    /// Whose field stays.
    ClashSetting, "one of server, client, prefix" {
        /// The server's.
        Server = "server",
        /// The client's.
        Client = "client",
        /// Both.
        Prefix = "prefix",
    }
}

impl ServerFieldSettings {
    /// Rules between settings.
    pub fn check(&self, reader: &mut Reader) {
        let clashes = [self.clash, self.pixel_clash];
        let has_prefix = clashes.contains(&ClashSetting::Prefix);
        reader.only_if(has_prefix, &["prefix"], "clash", self.clash.word());
        for clash in clashes {
            if let Err(error) = self.compile(clash) {
                let problem = Problem::RefusedText {
                    key: SECTION.to_owned(),
                    why: error.to_string(),
                };
                if !reader.problems.contains(&problem) {
                    reader.problems.push(problem);
                }
            }
        }
    }

    /// What is written at an endpoint with this policy.
    ///
    /// # Errors
    /// None that [`ServerFieldSettings::check`] has not reported.
    pub fn compile(&self, clash: ClashSetting) -> Result<Arc<ServerFields>, NameError> {
        let prefix = match clash {
            ClashSetting::Prefix => &self.prefix,
            ClashSetting::Server | ClashSetting::Client => "",
        };
        let name_of = |field: ServerField| {
            let name = match field {
                ServerField::IngestTime => &self.ingest_time,
                ServerField::RequestId => &self.request_id,
                ServerField::Address => &self.address,
                ServerField::UserAgent => &self.user_agent,
                ServerField::Gpc => &self.gpc,
                ServerField::Dnt => &self.dnt,
                ServerField::SpAnonymous => &self.sp_anonymous,
                ServerField::Index => &self.index,
            };
            name.as_ref().map(|name| format!("{prefix}{name}"))
        };
        let stays = match clash {
            ClashSetting::Client => Clash::Client,
            ClashSetting::Server | ClashSetting::Prefix => Clash::Server,
        };
        ServerFields::new(name_of, stays).map(Arc::new)
    }
}
