//! Bodies as the clickstream SDKs write them: arrays of events with the device, the session and the
//! attributes that the replaced tier's SDKs fill in. One visitor per request.

use super::random::{log_normal, pick};
use super::template::{BACK_MS_MAX, Text, Value};
use fastrand::Rng;

/// Which SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    Web,
    Android,
}

/// A visitor's actions after the page view, per 100 visitors.
const WEB: [(&str, u32); 5] = [
    ("_page_view", 24),
    ("_scroll", 22),
    ("_click", 28),
    ("_user_engagement", 18),
    ("_search", 8),
];
const MOBILE: [(&str, u32); 6] = [
    ("_screen_view", 26),
    ("_user_engagement", 22),
    ("product_view", 24),
    ("add_to_cart", 12),
    ("product_search", 12),
    ("purchase", 4),
];

/// Milliseconds between two events of a visitor: half of them within this.
const GAP_MEDIAN_MS: f64 = 1_500.0;
const GAP_SIGMA: f64 = 1.0;
const GAP_MS_MAX: usize = 8_000;

const PAGES: [&str; 8] = [
    "Home",
    "Shoes",
    "Trail Running Shoes",
    "Jackets",
    "Cart",
    "Checkout",
    "Offers",
    "Help",
];
const WORDS: [&str; 8] = [
    "running", "trail", "light", "winter", "rain", "wool", "kids", "sale",
];
const MODELS: [(&str, &str, &str); 4] = [
    ("Google", "Pixel 9", "1080"),
    ("samsung", "SM-S938B", "1440"),
    ("Xiaomi", "24129PN74G", "1200"),
    ("OnePlus", "CPH2653", "1440"),
];
const PLACES: [(&str, &str, &str, i32); 4] = [
    ("de-DE", "de", "DE", 1),
    ("en-GB", "en", "GB", 0),
    ("fr-FR", "fr", "FR", 1),
    ("en-US", "en", "US", -5),
];

/// Appends an array of `count` events of one visitor's session, the last one just now.
pub(super) fn push_events(text: &mut Text, sdk: Sdk, count: u32, run: u32, rng: &mut Rng) {
    let (locale, language, country, hours) = PLACES[rng.usize(..PLACES.len())];
    let (make, model, width) = MODELS[rng.usize(..MODELS.len())];
    let visits = rng.u32(1..40);
    let mut back = vec![0; count as usize];
    for at in (0..back.len().saturating_sub(1)).rev() {
        let gap = log_normal(rng, GAP_MEDIAN_MS, GAP_SIGMA, 20, GAP_MS_MAX) as u32;
        back[at] = (back[at + 1] + gap).min(BACK_MS_MAX);
    }
    text.push("[");
    for (index, back_ms) in (0..count).zip(back) {
        if index > 0 {
            text.push(",");
        }
        let event_type = match (sdk, index) {
            (Sdk::Web, 0) => "_page_view",
            (Sdk::Web, _) => *pick(rng, &WEB),
            (_, 0) => "_screen_view",
            _ => *pick(rng, &MOBILE),
        };
        text.format(format_args!(
            "{{\"event_type\":\"{event_type}\",\"event_id\":\""
        ));
        text.id(run, index);
        text.push("\",\"device_id\":\"d-");
        text.slot(Value::User);
        text.push("\",\"unique_id\":\"u-");
        text.slot(Value::User);
        text.push("\",\"app_id\":\"shop\",\"timestamp\":");
        text.slot(Value::TimeMs { back_ms });
        text.format(format_args!(
            ",\"locale\":\"{locale}\",\"system_language\":\"{language}\",\
             \"country_code\":\"{country}\",\"zone_offset\":{}",
            hours * 3_600_000
        ));
        match sdk {
            Sdk::Web => text.push(
                ",\"platform\":\"Web\",\"make\":\"Google Inc.\",\"host_name\":\"shop.example\",\
                 \"screen_width\":1920,\"screen_height\":1080,\"viewport_width\":1680,\
                 \"viewport_height\":914,\"sdk_version\":\"0.12.6\"",
            ),
            Sdk::Android => text.format(format_args!(
                ",\"platform\":\"Android\",\"os_version\":\"16\",\"make\":\"{make}\",\
                 \"brand\":\"{make}\",\"model\":\"{model}\",\"carrier\":\"UNKNOWN\",\
                 \"network_type\":\"WIFI\",\"screen_width\":{width},\"screen_height\":2424,\
                 \"app_package_name\":\"com.example.shop\",\"app_version\":\"4.7.1\",\
                 \"sdk_version\":\"0.14.0\"",
            )),
        }
        text.push(
            ",\"sdk_name\":\"aws-solution-clickstream-sdk\",\"app_title\":\"Shop\",\"items\":[",
        );
        if matches!(event_type, "add_to_cart" | "purchase" | "product_view") {
            push_item(text, rng);
        }
        text.push("],\"user\":{\"_user_id\":{\"value\":\"u-");
        text.slot(Value::User);
        text.push("\",\"set_timestamp\":");
        text.slot(Value::SessionStart);
        text.push("}},\"attributes\":{\"_session_id\":\"u-");
        text.slot(Value::User);
        text.push("-");
        text.slot(Value::SessionStart);
        text.push("\",\"_session_start_timestamp\":");
        text.slot(Value::SessionStart);
        text.push(",\"_session_duration\":");
        text.slot(Value::SessionAge { back_ms });
        text.format(format_args!(",\"_session_number\":{visits}"));
        push_attributes(text, sdk, event_type, rng);
        text.push("}}");
    }
    text.push("]");
}

fn push_item(text: &mut Text, rng: &mut Rng) {
    text.format(format_args!(
        "{{\"id\":\"SKU-{:06}\",\"name\":\"{} {}\",\"category\":\"Shoes\",\"price\":{}.{:02},\
         \"quantity\":{}}}",
        rng.u32(..1_000_000),
        WORDS[rng.usize(..WORDS.len())],
        WORDS[rng.usize(..WORDS.len())],
        rng.u32(5..500),
        rng.u32(..100),
        rng.u32(1..4)
    ));
}

fn push_attributes(text: &mut Text, sdk: Sdk, event_type: &str, rng: &mut Rng) {
    let title = PAGES[rng.usize(..PAGES.len())];
    let product = rng.u32(..100_000);
    if sdk == Sdk::Web {
        text.format(format_args!(
            ",\"_page_title\":\"{title}\",\"_page_url\":\"https://shop.example/products/{product}\",\
             \"_latest_referrer\":\"https://search.example/?q={}\",\
             \"_latest_referrer_host\":\"search.example\"",
            WORDS[rng.usize(..WORDS.len())]
        ));
    } else {
        text.format(format_args!(
            ",\"_screen_name\":\"{title}\",\"_screen_id\":\"com.example.shop.ui.{product}\",\
             \"_screen_unique_id\":{}",
            rng.u32(10_000_000..)
        ));
    }
    match event_type {
        "_page_view" | "_screen_view" => {
            text.format(format_args!(
                ",\"_entrances\":{}",
                u8::from(rng.u32(..5) == 0)
            ));
        }
        "_scroll" => text.push(",\"_engagement_time_msec\":4180"),
        "_user_engagement" => text.format(format_args!(
            ",\"_engagement_time_msec\":{}",
            log_normal(rng, 9_000.0, 1.0, 1_000, 600_000)
        )),
        "_click" => text.format(format_args!(
            ",\"_link_classes\":\"btn btn-{}\",\"_link_domain\":\"shop.example\",\
             \"_link_id\":\"buy-{product}\",\"_link_url\":\"https://shop.example/cart/{product}\",\
             \"_outbound\":false",
            WORDS[rng.usize(..WORDS.len())]
        )),
        "_search" | "product_search" => text.format(format_args!(
            ",\"_search_key\":\"q\",\"_search_term\":\"{} {}\"",
            WORDS[rng.usize(..WORDS.len())],
            WORDS[rng.usize(..WORDS.len())]
        )),
        "purchase" => text.format(format_args!(
            ",\"order_id\":\"o-{:08x}\",\"currency\":\"EUR\"",
            rng.u32(..)
        )),
        _ => {}
    }
}
