//! The events and the request that benchmarks have in common.

use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::time::Wall;
use std::net::IpAddr;

/// An event of `len` bytes, the length made up by its last field.
pub(super) fn event(len: usize) -> Vec<u8> {
    let start = concat!(
        r#"{"event_id":"b0e09b2c-5a51-4c59-9d5e-6f0f4a7e21d3","event_type":"_page_view","app_id":"shop","#,
        r#""unique_id":"1c0f4272-4f7c-4a0e-9f6e-0d8d3c1f4a42","device_id":"ed6a614b-f3b8-437c-b1f9-b94b4ea34087","#,
        r#""timestamp":1719469182900,"platform":"Web","make":"Google Inc.","locale":"de-DE","screen_height":1080,"#,
        r#""screen_width":1920,"zone_offset":7200000,"system_language":"de","country_code":"DE","#,
        r#""sdk_version":"0.12.2","sdk_name":"aws-solution-clickstream-sdk","host_name":"shop.example","#,
        r#""user":{"_user_first_touch_timestamp":{"value":1719469000123,"set_timestamp":1719469000123}},"#,
        r#""attributes":{"_session_duration":12.5,"_session_number":1,"_page_title":"K\u00e4se \"frisch\"","#,
        r#""ok":true,"nothing":null,"_page_url":"https://shop.example/"#,
    );
    let end = "\"}}";
    let filler = "0123456789/".bytes().cycle();
    let mut event = start.as_bytes().to_vec();
    event.extend(filler.take(len - start.len() - end.len()));
    event.extend_from_slice(end.as_bytes());
    assert_eq!(event.len(), len);
    event
}

/// 20 events as an array, 16 KiB in all.
pub(super) fn batch() -> Vec<u8> {
    let events = vec![event((16_384 - 21) / 20); 20];
    [b"[", &events.join(&b',')[..], b"]"].concat()
}

/// A request, as the web SDK sends it.
pub(super) fn request() -> RequestContext<'static> {
    RequestContext {
        method: "POST",
        uri: "/collect?platform=Web&appId=shop&event_bundle_sequence_id=7&upload_timestamp=1719469182900&hashCode=5c1b2f3a",
        path: "/collect",
        query: Some(
            "platform=Web&appId=shop&event_bundle_sequence_id=7&upload_timestamp=1719469182900&hashCode=5c1b2f3a",
        ),
        user_agent: Some(
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
        ),
        forwarded_for: Some(b"203.0.113.9"),
        peer: IpAddr::from([192, 0, 2, 7]),
        id: RequestId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        privacy: Default::default(),
        received_at: Wall {
            secs: 1_719_469_185,
            nanos: 547_102_438,
        },
        door: Door::default(),
    }
}
