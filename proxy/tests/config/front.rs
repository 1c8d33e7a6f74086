//! Settings of the HTTP server, and the environment of the tier that Sluice replaces.

use super::{MACHINE, load, load_all, names, problems, shown};
use sluice_proxy::config::{Config, Flags, Problem};
use sluice_proxy::http::HttpLimits;
use sluice_proxy::worker::ProxyProtocol;
use std::ffi::OsString;

#[test]
fn origins_are_a_list_or_text_and_checked_by_name() {
    let expected = ["https://*.example.com", "localhost:*"];
    for text in [
        "[cors]\norigins = ['https://*.example.com', 'localhost:*']\n",
        "[cors]\norigins = ' https://*.example.com,localhost:* ,'\n",
    ] {
        let config = load(text).unwrap();
        let origins: Vec<String> = config
            .cors
            .origins
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(origins, expected);
    }
    let variables = [("SLUICE_CORS__ORIGINS", "https://*.example.com,localhost:*")];
    let config = load_all("", &variables, &Flags::default()).unwrap();
    assert_eq!(config.cors.origins.len(), 2);
    assert!(load("").unwrap().cors.origins.is_empty());

    let found = problems("[cors]\norigins = ['https://a-*.example.com', 'a b', '*']\n");
    assert_eq!(found.len(), 2, "{found:?}");
    let many = format!("[cors]\norigins = '{}'\n", "a.example,".repeat(257));
    let found = problems(&many);
    assert!(
        matches!(
            &found[..],
            [Problem::OutOfRange {
                value: 257,
                max: 256,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[test]
fn lists_of_networks_applications_and_hosts_are_checked_and_bounded() {
    let config = load("").unwrap();
    let trusted: Vec<String> = config
        .client_address
        .trusted
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        (&trusted[..], config.client_address.hops),
        (&["private".to_owned()][..], 0)
    );
    assert!(config.admit.app_ids.is_empty() && config.admit.hosts.is_empty());

    let text = "[client_address]\ntrusted = ['10.0.0.0/33', 'x', '::1']\nhops = 33\n\
                [admit]\nhosts = ['a b', 'https://a', 'a.example']\n";
    assert_eq!(problems(text).len(), 5, "{:?}", problems(text));
    for (key, one, max) in [
        ("client_address]\ntrusted", "'10.0.0.1',", 256),
        ("admit]\napp_ids", "'a',", 10_000),
        ("admit]\nhosts", "'a.example',", 1_000),
    ] {
        let list = |count: usize| format!("[{key} = [{}]\n", one.repeat(count));
        assert!(load(&list(max)).is_ok(), "{key}");
        let found = problems(&list(max + 1));
        assert!(
            matches!(&found[..], [Problem::OutOfRange { max: most, .. }] if *most == max as u64),
            "{found:?}"
        );
    }
}

#[test]
fn legacy_variables_yield_to_ours_and_to_a_file() {
    let variables = [
        ("AWS_KINESIS_STREAM_NAME", "clicks"),
        ("SERVER_ENDPOINT_PATH", "/in"),
        ("SLUICE_PATHS__COLLECT", "/ours"),
    ];
    let os = || variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = Config::load(None, os(), &Flags::default(), MACHINE).unwrap();
    assert_eq!(names(&config.outputs), ["kinesis"]);
    let stream = shown(&config, "kinesis", "stream");
    assert_eq!(stream, Some("clicks".into()));
    assert_eq!(config.paths.collect.as_deref(), Some("/ours"));
    assert_eq!((config.paths.events, config.paths.pixel), (None, None));
    assert_eq!(config.notes.len(), 4, "{:?}", config.notes);

    let config = load_all("", &variables, &Flags::default()).unwrap();
    assert_eq!(names(&config.outputs), ["files"]);
    assert!(config.notes.is_empty());
}

/// What the variables of the replaced tier, with a stream, make of the paths.
fn replaced_paths(variables: &[(&str, &str)]) -> sluice_proxy::dialect::Paths {
    let stream = [("AWS_KINESIS_STREAM_NAME", "clicks")];
    let all = stream.iter().chain(variables);
    let os = all.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let config = Config::load(None, os, &Flags::default(), MACHINE);
    config
        .unwrap_or_else(|error| panic!("{variables:?}: {error}"))
        .paths
}

#[test]
fn legacy_paths_win_over_endpoints_the_old_tier_lacks() {
    for path in ["/v1/events", "/i", "/collect/"] {
        let paths = replaced_paths(&[("SERVER_ENDPOINT_PATH", path)]);
        assert_eq!((paths.collect.as_deref(), paths.events), (Some(path), None));
        let paths = replaced_paths(&[("PING_ENDPOINT_PATH", path)]);
        assert_eq!((paths.ping.as_str(), paths.pixel), (path, None));
    }
    assert_eq!(
        replaced_paths(&[("PING_ENDPOINT_PATH", "/health")]).ping,
        "/ping"
    );
    let ours = [
        ("SLUICE_PATHS__EVENTS", "/v2"),
        ("SLUICE_PATHS__PIXEL", "/p"),
    ];
    let paths = replaced_paths(&ours);
    assert_eq!(
        (paths.events.as_deref(), paths.pixel.as_deref()),
        (Some("/v2"), Some("/p"))
    );
}

#[test]
fn a_path_that_is_off_is_printed_and_read_back() {
    let config = load("[paths]\nevents = 'off'\n").unwrap();
    assert_eq!(config.paths.events, None);
    assert_eq!(config.paths.pixel.as_deref(), Some("/i"));
    assert_eq!(load(&config.to_string()).unwrap(), config);
}

#[test]
fn proxy_protocol_is_off_or_required() {
    assert_eq!(load("").unwrap().listen.proxy_protocol, ProxyProtocol::Off);
    for (word, expected) in [
        ("off", ProxyProtocol::Off),
        ("required", ProxyProtocol::Required),
    ] {
        let config = load(&format!("[listen]\nproxy_protocol = '{word}'\n")).unwrap();
        assert_eq!(config.listen.proxy_protocol, expected);
        assert_eq!(load(&config.to_string()).unwrap(), config);
        let variables = [("SLUICE_LISTEN__PROXY_PROTOCOL", word)];
        let config = load_all("", &variables, &Flags::default()).unwrap();
        assert_eq!(config.listen.proxy_protocol, expected);
    }
    for word in ["optional", "on", "Required", ""] {
        let error = load(&format!("[listen]\nproxy_protocol = '{word}'\n")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("one of off, required"), "{error}");
        assert!(error.contains(&format!("`{word}`")), "{error}");
    }
}

#[test]
fn fake_ip_is_off_unless_set_or_in_dev_mode() {
    assert!(!load("").unwrap().client_address.fake_ip);
    assert!(
        load("[client_address]\nfake_ip = true\n")
            .unwrap()
            .client_address
            .fake_ip
    );
    for (value, expected) in [("Yes", true), ("No", false), ("yes", false), ("", false)] {
        let os = [(OsString::from("DEV_MODE"), OsString::from(value))];
        let config = Config::load(None, os, &Flags::default(), MACHINE).unwrap();
        assert_eq!(config.client_address.fake_ip, expected, "{value}");
        assert_eq!(
            config.notes.len(),
            usize::from(!value.is_empty()),
            "{value}"
        );
    }
}

#[test]
fn heads_are_bounded_by_what_the_engine_can_hold() {
    for (key, ceiling) in [
        ("head_bytes_max", HttpLimits::HEAD_BYTES_CEILING),
        ("headers_max", HttpLimits::HEADERS_CEILING),
    ] {
        let with = |value: usize| load(&format!("[limits]\n{key} = {value}\n"));
        let limits = with(ceiling).unwrap().limits;
        assert_eq!(limits.out_of_bounds(), None);
        let shown = with(ceiling + 1).unwrap_err().to_string();
        assert!(shown.contains(&ceiling.to_string()), "{shown}");
    }
}
