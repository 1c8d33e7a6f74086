//! `examples/compose.yaml` without containers: its services, commands and variables on this machine.

use super::blocks::parse;
use super::session;
use super::workspace;
use saphyr::{LoadableYamlNode, Yaml};
use std::fs;

/// The programs that the images start, and the variables that they set.
fn entrypoint(image: &str) -> (&'static str, String) {
    match image {
        "sluice" => ("sluice", image_variables("Dockerfile")),
        "sluice-loadtest" => (
            "sluice-loadtest",
            image_variables("examples/Dockerfile.loadtest"),
        ),
        _ => panic!("no image {image}"),
    }
}

fn image_variables(file: &str) -> String {
    let text = fs::read_to_string(workspace().join(file)).unwrap();
    let variables = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    variables.map(|one| format!("{one} ")).collect()
}

/// One service as a command line. Containers find each other by name; here all are this host.
fn command(compose: &Yaml<'_>, name: &str) -> String {
    let service = &compose["services"][name];
    let (program, mut line) = entrypoint(service["image"].as_str().unwrap());
    let variables = service.as_mapping_get("environment");
    for (key, value) in variables.and_then(Yaml::as_mapping).into_iter().flatten() {
        let (key, value) = (key.as_str().unwrap(), value.as_str().unwrap());
        line += &format!("{key}={value} ");
    }
    line += program;
    for word in service["command"].as_sequence().unwrap() {
        line += &format!(" '{}'", word.as_str().unwrap());
    }
    for other in ["stream", "sluice"] {
        assert!(compose["services"].as_mapping_get(other).is_some());
        line = line.replace(&format!("//{other}:"), "//127.0.0.1:");
    }
    line
}

#[test]
fn the_compose_example_stores_what_its_generator_sends() {
    let text = fs::read_to_string(workspace().join("examples/compose.yaml")).unwrap();
    let documents = Yaml::load_from_str(&text).unwrap();
    let compose = &documents[0];
    let generator = command(compose, "generator");
    assert!(generator.contains("'--duration' '30'"), "{generator}");
    let generator = generator.replace("'--duration' '30'", "'--duration' '2'");
    let page = format!(
        "```sh,server=4567\n{}\n```\n\n```sh,server=8088\n{}\n```\n\n```sh\n{generator} --expect-all-ok\n\
         curl -sf http://127.0.0.1:9090/metrics | grep '^sluice_events_accepted_total [1-9]'\n```\n",
        command(compose, "stream"),
        command(compose, "sluice"),
    );
    assert_eq!(session::run(&parse("examples/compose.yaml", &page)), Ok(3));
}
