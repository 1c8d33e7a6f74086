//! Where a service of AWS is in a region. The rules are those of the SDK, whose own resolvers are the tests' oracle.

/// Regions with names of their own.
struct Partition {
    /// What the names of its regions begin with.
    begin: &'static str,
    dns_suffix: &'static str,
    /// What names end in that have IPv6 addresses as well.
    dual_stack_suffix: &'static str,
}

const PARTITIONS: [Partition; 6] = [
    Partition {
        begin: "cn-",
        dns_suffix: "amazonaws.com.cn",
        dual_stack_suffix: "api.amazonwebservices.com.cn",
    },
    Partition {
        begin: "eu-isoe-",
        dns_suffix: "cloud.adc-e.uk",
        dual_stack_suffix: "api.cloud-aws.adc-e.uk",
    },
    Partition {
        begin: "eusc-",
        dns_suffix: "amazonaws.eu",
        dual_stack_suffix: "api.amazonwebservices.eu",
    },
    Partition {
        begin: "us-iso-",
        dns_suffix: "c2s.ic.gov",
        dual_stack_suffix: "api.aws.ic.gov",
    },
    Partition {
        begin: "us-isob-",
        dns_suffix: "sc2s.sgov.gov",
        dual_stack_suffix: "api.aws.scloud",
    },
    Partition {
        begin: "us-isof-",
        dns_suffix: "csp.hci.ic.gov",
        dual_stack_suffix: "api.aws.hci.ic.gov",
    },
];
/// Of all regions that are not in [`PARTITIONS`].
const USUAL: Partition = Partition {
    begin: "",
    dns_suffix: "amazonaws.com",
    dual_stack_suffix: "api.aws",
};

/// What the name of any service in a region ends in.
#[cfg(feature = "s3")]
pub(crate) fn dns_suffix(region: &str) -> &'static str {
    partition(region).dns_suffix
}

fn partition(region: &str) -> &'static Partition {
    let found = PARTITIONS.iter().find(|one| region.starts_with(one.begin));
    found.unwrap_or(&USUAL)
}

/// What decides where a service is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub(crate) region: &'a str,
    /// One that settings, environment or profile name.
    pub(crate) given: Option<&'a str>,
    pub(crate) fips: bool,
    pub(crate) dual_stack: bool,
}

impl Endpoint<'_> {
    /// The URL of a service, by the first label of its host's name.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub(crate) fn url(&self, service: &str) -> Result<String, String> {
        if let Some(given) = self.given()? {
            return Ok(given.to_owned());
        }
        let region = self.region;
        let partition = partition(region);
        let suffix = match self.dual_stack {
            false => partition.dns_suffix,
            true => partition.dual_stack_suffix,
        };
        let fips = if self.fips { "-fips" } else { "" };
        Ok(format!("https://{service}{fips}.{region}.{suffix}"))
    }

    /// The endpoint of one's own, if there is one.
    ///
    /// # Errors
    /// It is to be of a kind that it may not be.
    pub(crate) fn given(&self) -> Result<Option<&str>, String> {
        let Some(given) = self.given else {
            return Ok(None);
        };
        for (is_set, name) in [(self.fips, "FIPS"), (self.dual_stack, "dual-stack")] {
            if is_set {
                return Err(format!(
                    "endpoint {given:?}: with an endpoint of one's own there is no {name} endpoint"
                ));
            }
        }
        Ok(Some(given))
    }
}

#[cfg(test)]
pub(crate) const REGIONS: [&str; 9] = [
    "us-east-1",
    "eu-west-1",
    "us-gov-west-1",
    "cn-north-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "eu-isoe-west-1",
    "us-isof-south-1",
    "eusc-de-east-1",
];
