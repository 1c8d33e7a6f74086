//! Fleet plans: the published arithmetic, what must always hold, and bad input.

use crate::command_line::output;
use proptest::prelude::*;
use serde_json::Value;
use sluice_loadtest::plan::{Input, Plan, PlanError, Prices, Ratio, ServicePath, Sink, Usd, plan};

/// One event per request, no head-room, a month of 730 hours at the peak.
fn input(sink: Sink, requests_per_second: u64, event_bytes: u64) -> Input {
    Input {
        name: "test".to_owned(),
        requests_per_second,
        events_per_request: 1,
        event_bytes,
        sink,
        micro_batch: 1,
        key_bytes: 0,
        head_room_percent: 0,
        host_requests_per_second: 10_000,
        host_price: None,
        hosts_min: 1,
        hours: 730,
        peak_to_average: Ratio::parse("1").unwrap(),
        requests_per_connection: 10,
        connection_seconds: 60,
        head_bytes: 1_000,
        tls_listener: false,
        consumers: 1,
        retention_hours: 24,
        object_bytes: 30_000_000,
        flush_seconds: 300,
        service_path: ServicePath::VpcEndpoint,
        zones: 3,
        cross_zone: false,
        accelerator: false,
        answer_bytes: 250,
    }
}

fn planned(input: &Input) -> Plan {
    plan(input, &Prices::built_in().unwrap(), "built in").unwrap()
}

fn need(plan: &Plan, what: &str) -> u64 {
    plan.need(what).unwrap()
}

fn line(plan: &Plan, what: &str) -> Usd {
    plan.bill.iter().find(|line| line.what == what).unwrap().usd
}

#[test]
fn firehose_bills_5_kib_increments_and_packing_saves() {
    // 500 to 4,000 events/s at 5,120 bytes each, for 730 hours, at 0.029 USD per GiB.
    for (rate, usd) in [
        (500, "181.70"),
        (1_000, "363.41"),
        (2_000, "726.81"),
        (4_000, "1,453.63"),
    ] {
        for event_bytes in [500, 1_000] {
            let alone = planned(&input(Sink::Firehose, rate, event_bytes));
            assert_eq!(line(&alone, "data in").to_string(), usd, "{rate}");
            assert_eq!(need(&alone, "delivery streams"), 1);
        }
    }
    // Ten of 500 bytes fill 5 KiB, of 1,000 bytes five.
    for (event_bytes, micro_batch, usd) in [(500, 10, "145.36"), (1_000, 5, "290.73")] {
        let packed = planned(&Input {
            micro_batch,
            ..input(Sink::Firehose, 4_000, event_bytes)
        });
        assert_eq!(line(&packed, "data in").to_string(), usd);
        let chosen = packed.packing.iter().find(|row| row.chosen).unwrap();
        assert_eq!(chosen.records_per_second, 4_000 / micro_batch);
        let plain = packed.packing[0].usd.nanos() as f64 / 1e9;
        let saved = plain * (1.0 - 1.0 / micro_batch as f64);
        assert!((chosen.saved_usd - saved).abs() < 1e-6);
    }
    // One more byte than 5 KiB, its newline, costs another 5 KiB.
    let full = planned(&input(Sink::Firehose, 500, 5_119));
    let over = planned(&input(Sink::Firehose, 500, 5_120));
    assert_eq!(line(&full, "data in").to_string(), "181.70");
    assert_eq!(line(&over, "data in").to_string(), "363.41");
}

#[test]
fn delivery_streams_follow_the_quotas_of_the_region() {
    // 5 MiB/s is the first quota that 1 KB events meet in a large Region: 5,242 with newline.
    for (rate, streams) in [(5_237, 1), (5_238, 2), (100_000, 20)] {
        let plan = planned(&input(Sink::Firehose, rate, 1_000));
        assert_eq!(need(&plan, "delivery streams"), streams, "{rate}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.toml");
    let small = Prices::BUILT_IN.replacen("region = \"us-east-1\"", "region = \"eu-south-2\"", 1);
    std::fs::write(&file, small).unwrap();
    let prices = Prices::read(&file).unwrap();
    let plan = plan(&input(Sink::Firehose, 5_237, 1_000), &prices, "test").unwrap();
    assert_eq!(need(&plan, "delivery streams"), 5);
    // Many tiny events meet the quota of records.
    let tiny = planned(&input(Sink::Firehose, 1_000_000, 1));
    assert_eq!(need(&tiny, "delivery streams"), 2);
}

#[test]
fn small_events_need_more_shards_than_bytes_say() {
    let by_bytes = planned(&input(Sink::Kinesis, 4_000, 4_000));
    assert_eq!(need(&by_bytes, "shards"), 16);
    let both = planned(&input(Sink::Kinesis, 16_000, 1_000));
    assert_eq!(need(&both, "shards"), 16);
    // The same bytes in events of 100: 160 shards by records, for the output packs none.
    let small = input(Sink::Kinesis, 160_000, 100);
    assert_eq!(need(&planned(&small), "shards"), 160);
    // 16 shards for 730 hours, and one PUT unit for each of 16,000 records a second.
    assert_eq!(line(&both, "shards").to_string(), "175.20");
    assert_eq!(line(&both, "PUT units").to_string(), "588.67");
    assert_eq!(need(&both, "PutRecords calls per second"), 32);
    let with_keys = planned(&Input {
        key_bytes: 16,
        ..input(Sink::Kinesis, 16_000, 1_000)
    });
    assert_eq!(need(&with_keys, "shards"), 17);
    let room = planned(&Input {
        head_room_percent: 20,
        ..input(Sink::Kinesis, 16_000, 1_000)
    });
    assert_eq!(need(&room, "shards"), 20);
}

#[test]
fn fleet_size_is_rate_over_measured_capacity() {
    let fleet = |host_requests_per_second, head_room_percent| {
        let plan = planned(&Input {
            host_requests_per_second,
            head_room_percent,
            ..input(Sink::File, 500_000, 1_024)
        });
        (need(&plan, "hosts"), need(&plan, "load balancers"))
    };
    // 4,000 to 6,000 requests/s per host is what the makers of nginx + Vector tiers publish.
    assert_eq!(fleet(4_000, 0), (125, 1));
    assert_eq!(fleet(6_000, 0), (84, 1));
    assert_eq!(fleet(6_000, 30), (120, 1));
    assert_eq!(fleet(60_000, 30), (12, 1));
    assert_eq!(fleet(500, 30), (1_429, 3));
    let least = planned(&Input {
        hosts_min: 3,
        ..input(Sink::File, 1, 1_024)
    });
    assert_eq!(need(&least, "hosts"), 3);
    let priced = planned(&Input {
        host_price: Some(Usd::parse("0.1").unwrap()),
        ..input(Sink::File, 500_000, 1_024)
    });
    assert_eq!(line(&priced, "hosts").to_string(), "3,650.00");
}

#[test]
fn the_load_balancer_is_billed_by_the_dimension_used_most() {
    let base = Input {
        head_bytes: 0,
        requests_per_connection: 1,
        connection_seconds: 1,
        ..input(Sink::File, 8_000, 1)
    };
    let units = |input: &Input| need(&planned(input), "NLCU at the peak");
    assert_eq!(units(&base), 10, "8,000 new connections at 800 each");
    let tls = Input {
        tls_listener: true,
        ..base.clone()
    };
    assert_eq!(units(&tls), 160, "8,000 at 50 each");
    let long = Input {
        connection_seconds: 1_000,
        ..base.clone()
    };
    assert_eq!(units(&long), 80, "8,000,000 active at 100,000 each");
    let large = Input {
        event_bytes: 1 << 20,
        requests_per_connection: 1_000,
        ..base.clone()
    };
    assert_eq!(units(&large), 28_125, "8,000 MiB/s at 1 GiB per hour each");
    // The bill is of the average: 10 NLCU for 730 hours at 0.006 USD, and half of it.
    let bill = |input: &Input| line(&planned(input), "load balancer use").to_string();
    assert_eq!(bill(&base), "43.80");
    let half = Input {
        peak_to_average: Ratio::parse("2").unwrap(),
        ..base
    };
    assert_eq!(bill(&half), "21.90");
}

#[test]
fn on_demand_rounds_each_record_up_to_a_kib() {
    // A GiB a second, in records of 1 KiB, of 1 KiB and a byte, and of 512 bytes.
    let month = |rate: u64, event_bytes| {
        let plan = planned(&input(Sink::KinesisOnDemand, rate, event_bytes));
        line(&plan, "data in")
    };
    let whole = month(1 << 20, 1 << 10);
    assert_eq!(whole.to_string(), "210,240.00");
    assert_eq!(month(1 << 20, 1_025).nanos(), 2 * whole.nanos());
    assert_eq!(month(1 << 20, 512), whole);
    let advantage = planned(&input(Sink::KinesisOnDemandAdvantage, 1 << 20, 1 << 10));
    assert_eq!(line(&advantage, "data in").to_string(), "84,096.00");
    // 25 MiB/s in and out at least.
    let idle = planned(&input(Sink::KinesisOnDemandAdvantage, 1, 1));
    assert_eq!(line(&idle, "data in").to_string(), "2,053.13");
    assert_eq!(line(&idle, "data out").to_string(), "1,026.56");
}

#[test]
fn other_sinks_count_what_they_bill() {
    // 10 messages of 1 KiB are one request, of 20 KiB four.
    let sqs = |event_bytes| planned(&input(Sink::Sqs, 1_000, event_bytes));
    assert_eq!(line(&sqs(1 << 10), "sends").to_string(), "105.12");
    assert_eq!(line(&sqs(20 << 10), "sends").to_string(), "420.48");
    assert_eq!(line(&sqs(20 << 10), "deletes").to_string(), "105.12");
    assert_eq!(
        need(&sqs(1 << 10), "SendMessageBatch calls per second"),
        100
    );
    // Messages of 200 KiB: five to a call of 1 MiB.
    let large = sqs(200 << 10);
    assert_eq!(need(&large, "SendMessageBatch calls per second"), 200);
    let kafka = |rate| need(&planned(&input(Sink::Kafka, rate, 1_000)), "brokers");
    assert_eq!((kafka(1), kafka(46_800), kafka(46_801)), (3, 3, 6));
    // By age: 730 hours of 300 s on two hosts. By size: 30 MB before gzip, the output's default.
    let s3 = |rate, hosts_min| {
        let input = Input {
            hosts_min,
            ..input(Sink::S3, rate, 1_023)
        };
        need(&planned(&input), "objects in the month")
    };
    assert_eq!(s3(1, 2), 2 * 730 * 12);
    assert_eq!(
        s3(10_000, 1),
        (10_000u64 * 2_628_000 * 1_024).div_ceil(30_000_000)
    );
}

#[test]
fn what_is_not_possible_is_refused_with_limit_and_value() {
    let base = input(Sink::Kinesis, 1, 1_000);
    let error = |input: Input| {
        let error = plan(&input, &Prices::built_in().unwrap(), "").unwrap_err();
        error.to_string()
    };
    for (input, part) in [
        (
            Input {
                requests_per_second: 0,
                ..base.clone()
            },
            "requests-per-second must be between 1 and 1000000000, not 0",
        ),
        (
            Input {
                head_room_percent: 91,
                ..base.clone()
            },
            "head-room must be between 0 and 90, not 91",
        ),
        (
            Input {
                requests_per_second: 1_000_000_000,
                events_per_request: 2,
                ..base.clone()
            },
            "2000000000 events per second",
        ),
        (
            Input {
                requests_per_second: 1_000_000_000,
                events_per_request: 100_000,
                ..base.clone()
            },
            "100000000000000 events per second",
        ),
        (
            Input {
                event_bytes: (1 << 20) + 1,
                ..base.clone()
            },
            "is 1048577 bytes with its key, over the 1048576 bytes that kinesis takes",
        ),
        (
            Input {
                micro_batch: 1_048,
                sink: Sink::Sqs,
                ..base.clone()
            },
            "a record of 1048 events is 1049047 bytes",
        ),
        (
            Input {
                micro_batch: 2,
                ..base.clone()
            },
            "micro-batch is for firehose and sqs; the kinesis output writes each event by itself",
        ),
    ] {
        let error = error(input);
        assert!(error.contains(part), "{error}");
    }
    let prices = Prices::built_in().unwrap();
    let most = Input {
        event_bytes: 1 << 20,
        ..base
    };
    assert!(plan(&most, &prices, "").is_ok());
}

#[test]
fn the_largest_input_of_every_sink_is_still_counted() {
    for sink in Sink::ALL {
        let largest = Input {
            events_per_request: 100,
            head_bytes: 1 << 20,
            hours: 366 * 24,
            consumers: 100,
            retention_hours: 366 * 24,
            host_price: Some(Usd::parse("100000").unwrap()),
            connection_seconds: 86_400,
            requests_per_connection: 1,
            host_requests_per_second: 1,
            head_room_percent: 90,
            ..input(sink, 10_000_000, 1_000_000)
        };
        let plan = plan(&largest, &Prices::built_in().unwrap(), "").unwrap();
        assert_eq!(need(&plan, "hosts"), 100_000_000);
        let sum: u128 = plan.bill.iter().map(|line| line.usd.nanos()).sum();
        assert_eq!(plan.total.nanos(), sum);
    }
}

fn any_sink() -> impl Strategy<Value = Sink> {
    prop::sample::select(Sink::ALL.to_vec())
}

prop_compose! {
    fn any_input()(
        sink in any_sink(),
        requests_per_second in 1u64..2_000_000,
        events_per_request in 1u64..200,
        event_bytes in 1u64..10_000,
        micro_batch in 1u64..50,
        key_bytes in 0u64..300,
        head_room_percent in 0u64..=90,
        hours in 1u64..1_000,
        average in 1_000u64..20_000,
        tls_listener in any::<bool>(),
    ) -> Input {
        Input {
            events_per_request,
            micro_batch: match sink {
                Sink::Firehose | Sink::Sqs => micro_batch,
                _ => 1,
            },
            cross_zone: tls_listener,
            accelerator: average % 2 == 0,
            service_path: match hours % 3 {
                0 => ServicePath::Nat,
                1 => ServicePath::Public,
                _ => ServicePath::VpcEndpoint,
            },
            key_bytes,
            head_room_percent,
            hours,
            peak_to_average: Ratio::parse(&format!("{}.{:03}", average / 1_000, average % 1_000))
                .unwrap(),
            tls_listener,
            ..input(sink, requests_per_second, event_bytes)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_load_never_needs_or_costs_less(
        less in any_input(),
        requests in 0u64..100_000,
        events in 0u64..100,
    ) {
        let more = Input {
            requests_per_second: less.requests_per_second + requests,
            events_per_request: less.events_per_request + events,
            ..less.clone()
        };
        let (less, more) = (planned(&less), planned(&more));
        for (less, more) in less.needs.iter().zip(&more.needs) {
            prop_assert_eq!(less.what, more.what);
            // More hosts share the same bytes, and more objects are less full on average.
            let shared = less.what.contains("and host") || less.what.contains("per object");
            prop_assert!(less.count <= more.count || shared, "{}", less.what);
        }
        for (less, more) in less.bill.iter().zip(&more.bill) {
            prop_assert!(less.usd <= more.usd, "{}", less.what);
        }
        prop_assert!(less.total <= more.total);
    }

    #[test]
    fn larger_events_never_cost_less_one_by_one(less in any_input(), bytes in 0u64..20_000) {
        let less = Input { micro_batch: 1, ..less };
        let more = Input { event_bytes: less.event_bytes + bytes, ..less.clone() };
        prop_assert!(planned(&less).total <= planned(&more).total);
    }

    #[test]
    fn packing_never_raises_the_record_count(input in any_input(), events in 0u64..50) {
        let packs = matches!(input.sink, Sink::Firehose | Sink::Sqs);
        let events = if packs { events } else { 0 };
        let more = planned(&Input { micro_batch: input.micro_batch + events, ..input.clone() });
        let less = planned(&input);
        let records = |plan: &Plan| plan.need("records per second");
        prop_assert!(records(&more) <= records(&less));
        for row in &more.packing {
            prop_assert!(row.records_per_second <= more.packing[0].records_per_second);
            prop_assert!(row.events_per_record >= 1);
        }
        let chosen = more.packing.iter().filter(|row| row.chosen).count();
        prop_assert!(more.packing.is_empty() || chosen == 1);
    }

    #[test]
    fn more_head_room_never_needs_less(input in any_input(), percent in 0u64..=90) {
        let tight = Input { head_room_percent: percent.min(input.head_room_percent), ..input.clone() };
        let roomy = Input { head_room_percent: percent.max(input.head_room_percent), ..input };
        prop_assert!(planned(&tight).total <= planned(&roomy).total);
    }
}

#[test]
fn plans_come_from_options_or_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let json = path("plan.json");
    let (code, stdout, stderr) = output(&[
        "plan",
        "--requests-per-second",
        "500000",
        "--host-requests-per-second",
        "20000",
        "--sink",
        "kinesis",
        "--peak-to-average",
        "2.5",
        "--json",
        &json,
    ]);
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "shards",
        "total",
        "shard-hour           at 0.015 ",
        "VPC endpoint use",
        "us-east-1, 2026-11-21, built in",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(!stdout.contains("packing saves"), "{stdout}");
    let plans: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let needs = plans[0]["needs"].as_array().unwrap();
    assert!(
        needs
            .iter()
            .any(|need| need["what"] == "hosts" && need["count"] == 36)
    );
    let sum: f64 = plans[0]["bill"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["usd"].as_f64().unwrap())
        .sum();
    assert!((sum - plans[0]["total"].as_f64().unwrap()).abs() < 0.001);
    let text = "requests_per_second = 4000\nhost_requests_per_second = 9000\nsink = \"firehose\"\n\
                event_bytes = 500\nmicro_batch = 1\npeak_to_average = \"1.5\"\n";
    std::fs::write(path("web.toml"), text).unwrap();
    std::fs::write(path("app.toml"), format!("name = \"the app\"\n{text}")).unwrap();
    let prices = path("prices.toml");
    let (code, printed, _) = output(&["plan", "--print-prices"]);
    assert_eq!(code, 0);
    std::fs::write(&prices, printed.replace("\"0.029\"", "\"0.058\"")).unwrap();
    let (code, stdout, stderr) = output(&[
        "plan",
        "--scenario",
        &path("web.toml"),
        &path("app.toml"),
        "--prices",
        &prices,
    ]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("web: 4,000 requests/s"), "{stdout}");
    assert!(stdout.contains("\nthe app: 4,000"), "{stdout}");
    // 1,453.63 at twice the price, at an average of 1/1.5.
    assert_eq!(stdout.matches("1,938.17").count(), 4, "{stdout}");
}

#[test]
fn bad_plan_input_exits_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown = file("unknown.toml", "requests = 1\n");
    let float = file("float.toml", "requests_per_second = 1.5\n");
    let nan = file("nan.toml", "requests_per_second = nan\n");
    let empty = file("empty.toml", "");
    let zero = file(
        "zero.toml",
        "requests_per_second = 0\nhost_requests_per_second = 1\nsink = \"s3\"\n",
    );
    let large = file("large.toml", &"#".repeat((1 << 20) + 1));
    let good = file(
        "good.toml",
        "requests_per_second = 1\nhost_requests_per_second = 1\nsink = \"s3\"\n",
    );
    for (args, part) in [
        (&["--scenario", &unknown][..], "unknown field `requests`"),
        (&["--scenario", &float], "invalid type: floating point"),
        (&["--scenario", &nan], "invalid type: floating point"),
        (&["--scenario", &empty], "requests-per-second is missing"),
        (
            &["--scenario", &zero],
            "zero.toml: requests-per-second must be between",
        ),
        (&["--scenario", &large], "more than 1048576 bytes"),
        (
            &["--scenario", "/nonexistent"],
            "/nonexistent: No such file",
        ),
        (
            &["--scenario", &good, "--prices", &unknown],
            "unknown field `requests`",
        ),
        (&["--scenario", &good, "--prices", &empty], "missing field"),
        (
            &["--scenario", &good, "--sink", "s3"],
            "cannot be used with",
        ),
        (&[], "requests-per-second is missing"),
        (&["--requests-per-second", "1"], "sink is missing"),
        (&["--requests-per-second", "-1"], "invalid value '-1'"),
        (&["--requests-per-second", "NaN"], "invalid value 'NaN'"),
        (&["--requests-per-second", "1e9"], "invalid value '1e9'"),
        (
            &["--requests-per-second", "18446744073709551616"],
            "number too large",
        ),
        (
            &[
                "--requests-per-second",
                "1",
                "--host-requests-per-second",
                "1",
                "--sink",
                "s3",
                "--host-price",
                "-0.1",
            ],
            "host-price: `-0.1` is no price",
        ),
        (
            &[
                "--requests-per-second",
                "1",
                "--host-requests-per-second",
                "1",
                "--sink",
                "s3",
                "--peak-to-average",
                "0.5",
            ],
            "peak-to-average: must be between 1 and 1000, not 0.5",
        ),
    ] {
        let (code, stdout, stderr) = output(&[&["plan"], args].concat());
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
        assert!(stdout.is_empty(), "{args:?}");
        let first = stderr.lines().next().unwrap();
        assert!(first.starts_with("sluice-loadtest: ") || first.starts_with("error: "));
    }
    let (code, _, stderr) = output(&["plan", "--scenario", &good, "--json", "/nonexistent/x"]);
    assert_eq!(code, 1, "{stderr}");
    let many = vec![good.as_str(); 101];
    let (code, _, stderr) = output(&[&["plan", "--scenario"], many.as_slice()].concat());
    assert_eq!(code, 2);
    assert!(
        stderr.contains("at most 100 scenarios, not 101"),
        "{stderr}"
    );
    assert!(matches!(
        plan(&input(Sink::File, 0, 1), &Prices::built_in().unwrap(), ""),
        Err(PlanError::Range { actual: 0, .. })
    ));
}

#[test]
fn the_bill_has_the_network_that_services_do_not_show() {
    // 1,000 requests/s of 1 KiB for 730 hours: 2,628,000,000 requests.
    let usd = |input: &Input, what: &str| {
        let plan = planned(input);
        let line = plan.bill.iter().find(|line| line.what == what);
        line.map(|line| line.usd.to_string())
    };
    let base = input(Sink::Kinesis, 1_000, 1_024);
    let some = |text: &str| Some(text.to_owned());
    // Three endpoints at 0.01 USD an hour. 1,024 bytes are 1,366 in base64, and 32 around them.
    assert_eq!(usd(&base, "VPC endpoints"), some("21.90"));
    assert_eq!(usd(&base, "VPC endpoint use"), some("34.20"));
    let nat = Input {
        service_path: ServicePath::Nat,
        ..base.clone()
    };
    assert_eq!(usd(&nat, "NAT gateways"), some("98.55"));
    assert_eq!(usd(&nat, "NAT use"), some("153.90"));
    assert_eq!(usd(&nat, "VPC endpoints"), None);
    // S3's gateway endpoint is free, its way through NAT is not; files stay on the host.
    let of = |sink, service_path| Input {
        sink,
        service_path,
        ..base.clone()
    };
    let s3 = of(Sink::S3, ServicePath::VpcEndpoint);
    assert_eq!(usd(&s3, "VPC endpoints"), None);
    assert!(usd(&of(Sink::S3, ServicePath::Nat), "NAT use").is_some());
    assert_eq!(usd(&of(Sink::File, ServicePath::Nat), "NAT use"), None);
    // Requests of 2,024 bytes; two thirds of them change zone, paid on both sides.
    let far = Input {
        accelerator: true,
        cross_zone: true,
        ..base.clone()
    };
    assert_eq!(usd(&far, "accelerator"), some("18.25"));
    assert_eq!(usd(&far, "accelerator use"), some("74.31"));
    assert_eq!(usd(&far, "cross-zone"), some("66.05"));
    assert_eq!(usd(&base, "cross-zone"), None);
    // Brokers are in every zone, whatever the load balancer does.
    assert!(usd(&of(Sink::Kafka, ServicePath::Public), "cross-zone").is_some());
    // Answers of 250 bytes.
    assert_eq!(usd(&base, "answers to clients"), some("55.07"));
}

#[test]
fn firehose_packs_by_default_what_its_output_packs() {
    for (event_bytes, events) in [(500, 10), (1_024, 4), (5_119, 1), (9_000, 1)] {
        assert_eq!(Sink::Firehose.packed_by_default(event_bytes), events);
        assert_eq!(Sink::Kinesis.packed_by_default(event_bytes), 1);
    }
}

#[test]
fn explain_prints_price_unit_and_source_of_each_line() {
    let args = [
        "plan",
        "--requests-per-second",
        "1000",
        "--host-requests-per-second",
        "900",
        "--sink",
        "firehose",
        "--accelerator",
        "--explain",
    ];
    let (code, stdout, stderr) = output(&args);
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "host-hour at 0.08925 USD",
        "GiB at 0.029 up to 512,000, 0.025 up to 2,048,000, then 0.02 USD",
        "accelerator-hour at 0.025 USD",
        "third-party, us-east-1, 2026-11-21: ",
        "unverified, us-east-1, 2026-11-21: interface endpoint in one zone; from memory",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let plan = planned(&input(Sink::Firehose, 1_000, 1_024));
    let explained = plan.explain();
    for line in &plan.bill {
        let begin = format!("  {}: ", line.what);
        let mut lines = explained.lines().skip_while(|one| !one.starts_with(&begin));
        let (first, second) = (lines.next().unwrap(), lines.next().unwrap());
        let end = format!(" {} at {} USD = {} USD", line.unit, line.price, line.usd);
        assert!(first.ends_with(&end), "{first}: {end}");
        assert_eq!(second.trim_start(), line.origin);
        assert!(!line.price.is_empty() && line.origin.contains(": "));
    }
    let given = Input {
        host_price: Some(Usd::parse("0.1").unwrap()),
        ..input(Sink::File, 1, 1)
    };
    let explained = planned(&given).explain();
    assert!(explained.contains("first hand, us-east-1, 2026-11-21: given as host-price"));
}
