//! Presets of AWS services. `service: sqs` of an endpoint stands for three things in the Region of
//! the endpoint's VPC: the service name, the parent of the names of its endpoints, and its private
//! names.
//!
//! Sources of the table:
//!
//! - names of the services: AWS PrivateLink guide, "AWS services that integrate with AWS
//!   PrivateLink";
//! - several private names of one service: the same guide, example of
//!   `describe-vpc-endpoint-services` (CloudWatch); Amazon SQS developer guide, "Internetwork
//!   traffic privacy" (legacy names such as `us-east-1.queue.amazonaws.com` are not among them);
//!   Amazon S3 user guide, "AWS PrivateLink for Amazon S3"; Amazon EKS user guide, "Access Amazon
//!   EKS using AWS PrivateLink";
//! - the China Regions: AWS CDK, `getDefaultEndpointPrefix` of `aws-ec2`.
//!
//! The parent of the endpoints' names is the service's host name with `vpce` behind the Region, as
//! in the output of `describe-vpc-endpoint-services`. If a service differs, a resource with its
//! name in `vpc_endpoint_services` overrides the preset.

use super::{AwsData, Id, Manifest, Tags, Vpc, VpcEndpoint, VpcEndpointService, VpcEndpointType, decode::suggestion};
use crate::wire::Name;
use std::{collections::BTreeMap, sync::Arc};

/// Services with one private name: the name of the service, the Region and the suffix of the
/// partition.
const PLAIN: &[&str] = &[
    "access-analyzer",
    "account",
    "acm-pca",
    "app-integrations",
    "appmesh-envoy-management",
    "application-autoscaling",
    "apprunner",
    "aps",
    "aps-workspaces",
    "athena",
    "auditmanager",
    "autoscaling",
    "autoscaling-plans",
    "awsconnector",
    "backup",
    "backup-gateway",
    "batch",
    "bedrock",
    "bedrock-agent",
    "bedrock-agent-runtime",
    "bedrock-runtime",
    "billingconductor",
    "braket",
    "cassandra",
    "cassandra-fips",
    "clouddirectory",
    "cloudformation",
    "cloudhsmv2",
    "cloudtrail",
    "codebuild",
    "codebuild-fips",
    "codecommit",
    "codecommit-fips",
    "codedeploy",
    "codedeploy-commands-secure",
    "codeguru-profiler",
    "codeguru-reviewer",
    "codepipeline",
    "comprehend",
    "comprehendmedical",
    "config",
    "connect-campaigns",
    "databrew",
    "dataexchange",
    "datasync",
    "devops-guru",
    "dms",
    "dms-fips",
    "drs",
    "ebs",
    "ec2",
    "ec2messages",
    "ecs",
    "eks",
    "elasticache",
    "elasticbeanstalk",
    "elasticbeanstalk-health",
    "elasticfilesystem",
    "elasticfilesystem-fips",
    "elasticloadbalancing",
    "elasticmapreduce",
    "email-smtp",
    "emr-containers",
    "emr-serverless",
    "events",
    "evidently",
    "finspace",
    "finspace-api",
    "fis",
    "forecast",
    "forecast-fips",
    "forecastquery",
    "forecastquery-fips",
    "frauddetector",
    "fsx",
    "fsx-fips",
    "git-codecommit",
    "git-codecommit-fips",
    "glue",
    "grafana",
    "greengrass",
    "groundstation",
    "healthlake",
    "imagebuilder",
    "inspector2",
    "kendra",
    "kms",
    "lakeformation",
    "lambda",
    "license-manager",
    "license-manager-fips",
    "logs",
    "lookoutequipment",
    "lookoutmetrics",
    "lookoutvision",
    "macie2",
    "memory-db",
    "memorydb-fips",
    "mgn",
    "migrationhub-orchestrator",
    "migrationhub-strategy",
    "models-v2-lex",
    "nimble",
    "panorama",
    "profile",
    "proton",
    "rds",
    "rds-data",
    "redshift",
    "redshift-data",
    "redshift-fips",
    "refactor-spaces",
    "rekognition",
    "rekognition-fips",
    "robomaker",
    "rum",
    "runtime-v2-lex",
    "s3-outposts",
    "secretsmanager",
    "securityhub",
    "servicecatalog",
    "servicecatalog-appregistry",
    "sms",
    "sms-fips",
    "snow-device-management",
    "sns",
    "sqs-fips",
    "ssm",
    "ssm-contacts",
    "ssm-incidents",
    "ssmmessages",
    "states",
    "storagegateway",
    "sts",
    "sync-states",
    "synthetics",
    "textract",
    "textract-fips",
    "transcribe",
    "transcribestreaming",
    "transfer",
    "translate",
    "voiceid",
    "wisdom",
    "workspaces",
    "xray",
];

/// A service whose names have another form. `{r}` stands for the Region and `{s}` for the suffix of
/// the partition.
struct Special {
    name: &'static str,
    /// The parent of the names of its endpoints.
    dns_name: &'static str,
    /// The private names of the service.
    private: &'static [&'static str],
}

const fn special(name: &'static str, dns_name: &'static str, private: &'static [&'static str]) -> Special {
    Special { name, dns_name, private }
}

/// The services whose names have another form than those of [`PLAIN`].
const SPECIAL: &[Special] = &[
    special("airflow.api", "api.airflow.{r}.vpce.{s}", &["api.airflow.{r}.{s}"]),
    special("airflow.env", "env.airflow.{r}.vpce.{s}", &["env.airflow.{r}.{s}"]),
    special("airflow.ops", "ops.airflow.{r}.vpce.{s}", &["ops.airflow.{r}.{s}"]),
    special("appstream.api", "appstream2.{r}.vpce.{s}", &["appstream2.{r}.{s}"]),
    special("appstream.streaming", "streaming.appstream.{r}.vpce.{s}", &["streaming.appstream.{r}.{s}"]),
    special("codeartifact.api", "codeartifact.{r}.vpce.{s}", &["codeartifact.{r}.{s}"]),
    special("codeartifact.repositories", "d.codeartifact.{r}.vpce.{s}", &["*.d.codeartifact.{r}.{s}"]),
    special("codestar-connections.api", "codestar-connections.{r}.vpce.{s}", &["codestar-connections.{r}.{s}"]),
    // DynamoDB has no private names: its Gateway endpoints work by routes.
    special("dynamodb", "dynamodb.{r}.vpce.{s}", &[]),
    special("ecr.api", "api.ecr.{r}.vpce.{s}", &["api.ecr.{r}.{s}"]),
    special("ecr.dkr", "dkr.ecr.{r}.vpce.{s}", &["*.dkr.ecr.{r}.{s}"]),
    special("ecs-agent", "ecs-a.{r}.vpce.{s}", &["ecs-a.{r}.{s}"]),
    special("ecs-telemetry", "ecs-t.{r}.vpce.{s}", &["ecs-t.{r}.{s}"]),
    special("eks-auth", "eks-auth.{r}.vpce.{s}", &["eks-auth.{r}.api.aws"]),
    special(
        "elastic-inference.runtime",
        "runtime.elastic-inference.{r}.vpce.{s}",
        &["runtime.elastic-inference.{r}.{s}"],
    ),
    special("evidently-dataplane", "dataplane.evidently.{r}.vpce.{s}", &["dataplane.evidently.{r}.{s}"]),
    special("execute-api", "execute-api.{r}.vpce.{s}", &["*.execute-api.{r}.{s}"]),
    special("iot.data", "data.iot.{r}.vpce.{s}", &["data.iot.{r}.{s}"]),
    special("iotsitewise.api", "api.iotsitewise.{r}.vpce.{s}", &["api.iotsitewise.{r}.{s}"]),
    special("iotsitewise.data", "data.iotsitewise.{r}.vpce.{s}", &["data.iotsitewise.{r}.{s}"]),
    special("iottwinmaker.api", "api.iottwinmaker.{r}.vpce.{s}", &["api.iottwinmaker.{r}.{s}"]),
    special("iottwinmaker.data", "data.iottwinmaker.{r}.vpce.{s}", &["data.iottwinmaker.{r}.{s}"]),
    special("iotwireless.api", "api.iotwireless.{r}.vpce.{s}", &["api.iotwireless.{r}.{s}"]),
    special("kinesis-firehose", "firehose.{r}.vpce.{s}", &["firehose.{r}.{s}"]),
    special("kinesis-streams", "kinesis.{r}.vpce.{s}", &["kinesis.{r}.{s}"]),
    special("lorawan.cups", "cups.lorawan.{r}.vpce.{s}", &["*.cups.lorawan.{r}.{s}"]),
    special("lorawan.lns", "lns.lorawan.{r}.vpce.{s}", &["*.lns.lorawan.{r}.{s}"]),
    special("monitoring", "monitoring.{r}.vpce.{s}", &["monitoring.{r}.{s}", "monitoring.{r}.api.aws"]),
    special("pinpoint-sms-voice-v2", "sms-voice.{r}.vpce.{s}", &["sms-voice.{r}.{s}"]),
    special("qldb.session", "session.qldb.{r}.vpce.{s}", &["session.qldb.{r}.{s}"]),
    special("rum-dataplane", "dataplane.rum.{r}.vpce.{s}", &["dataplane.rum.{r}.{s}"]),
    special(
        "s3",
        "s3.{r}.vpce.{s}",
        &[
            "s3.{r}.{s}",
            "*.s3.{r}.{s}",
            "s3-accesspoint.{r}.{s}",
            "*.s3-accesspoint.{r}.{s}",
            "s3-control.{r}.{s}",
            "*.s3-control.{r}.{s}",
        ],
    ),
    special("sagemaker.api", "api.sagemaker.{r}.vpce.{s}", &["api.sagemaker.{r}.{s}"]),
    special(
        "sagemaker.featurestore-runtime",
        "featurestore-runtime.sagemaker.{r}.vpce.{s}",
        &["featurestore-runtime.sagemaker.{r}.{s}"],
    ),
    special("sagemaker.runtime", "runtime.sagemaker.{r}.vpce.{s}", &["runtime.sagemaker.{r}.{s}"]),
    special("sagemaker.runtime-fips", "runtime-fips.sagemaker.{r}.vpce.{s}", &["runtime-fips.sagemaker.{r}.{s}"]),
    special("sqs", "sqs.{r}.vpce.{s}", &["sqs.{r}.{s}", "sqs.{r}.api.aws"]),
    special("transfer.server", "server.transfer.{r}.vpce.{s}", &["*.server.transfer.{r}.{s}"]),
];

/// The services whose service name begins with `cn.` in both China Regions.
const CHINA: &[&str] = &[
    "application-autoscaling",
    "appmesh-envoy-management",
    "athena",
    "autoscaling",
    "awsconnector",
    "backup",
    "batch",
    "cassandra",
    "cloudformation",
    "codedeploy-commands-secure",
    "databrew",
    "dms",
    "ebs",
    "ec2",
    "ecr.api",
    "ecr.dkr",
    "eks",
    "elasticache",
    "elasticbeanstalk",
    "elasticfilesystem",
    "elasticfilesystem-fips",
    "emr-containers",
    "execute-api",
    "fsx",
    "imagebuilder",
    "iot.data",
    "kinesis-streams",
    "lambda",
    "license-manager",
    "monitoring",
    "rds",
    "redshift",
    "redshift-data",
    "s3",
    "sagemaker.api",
    "sagemaker.featurestore-runtime",
    "sagemaker.runtime",
    "securityhub",
    "servicecatalog",
    "sms",
    "sqs",
    "states",
    "sts",
    "sync-states",
    "synthetics",
    "transcribe",
    "transcribestreaming",
    "transfer",
    "xray",
];

/// The parent of dual-stack names, which exist in the partition `aws` only.
const DUALSTACK_SUFFIX: &str = ".api.aws";

/// The names of all presets, in order.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = PLAIN.iter().copied().chain(SPECIAL.iter().map(|special| special.name)).collect();
    names.sort_unstable();
    names
}

/// The suffix of the partition of a Region. None for isolated Regions, for which the tables may not
/// hold, and for texts that are not a Region.
fn suffix(region: &str) -> Option<&'static str> {
    let is_label = !region.is_empty() && region.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    match region {
        _ if !is_label || ["us-iso", "eu-iso", "eusc-"].iter().any(|other| region.starts_with(other)) => None,
        _ if region.starts_with("cn-") => Some("amazonaws.com.cn"),
        _ => Some("amazonaws.com"),
    }
}

/// The service name and the service that a preset stands for in a Region. None if there is no such
/// preset, or if presets do not cover the Region.
pub fn service(preset: &str, region: &str, endpoint_type: VpcEndpointType) -> Option<(Id, VpcEndpointService)> {
    let suffix = suffix(region)?;
    let is_china = region.starts_with("cn-");
    let (name, dns_name, private): (&str, String, Vec<String>) = match SPECIAL.iter().find(|one| one.name == preset) {
        Some(Special { name, dns_name, private }) => {
            (name, (*dns_name).into(), private.iter().map(|name| (*name).into()).collect())
        }
        None => {
            let name = PLAIN.iter().find(|name| **name == preset)?;
            (name, format!("{name}.{{r}}.vpce.{{s}}"), vec![format!("{name}.{{r}}.{{s}}")])
        }
    };
    let filled = |text: &str| Name::absolute(&text.replace("{r}", region).replace("{s}", suffix)).ok();
    let private = private.iter().filter(|name| !is_china || !name.ends_with(DUALSTACK_SUFFIX));
    let service = VpcEndpointService {
        owner_id: "amazon".into(),
        region: region.into(),
        dns_name: filled(&dns_name)?,
        private_dns_names: private.map(|name| filled(name)).collect::<Option<_>>()?,
        private_dns_name_configuration: None,
        health_check: None,
        service_id: None,
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    // The service name of Gateway endpoints has no prefix in China.
    let is_renamed = is_china && CHINA.contains(&name) && endpoint_type != VpcEndpointType::Gateway;
    let (prefix, suffix) = match is_renamed {
        true => ("cn.", if name == "transcribe" { ".cn" } else { "" }),
        false => ("", ""),
    };
    Some((format!("{prefix}com.amazonaws.{region}.{name}{suffix}"), service))
}

/// Replaces the presets of a manifest: endpoints get the name of their service, and services that
/// the manifest lacks are added. A resource that is equal in `old`, the previous completed
/// manifest, is shared with it.
pub fn complete(manifest: &Arc<Manifest>, old: &Manifest) -> Arc<Manifest> {
    let mut completed: Option<Manifest> = None;
    let mut services: BTreeMap<Id, VpcEndpointService> = BTreeMap::new();
    for (id, endpoint) in &manifest.vpc_endpoints {
        let Some(preset) = &endpoint.service else { continue };
        let Some(vpc) = manifest.vpcs.get(&endpoint.vpc_id) else { continue };
        let Some((name, service)) = service(preset, &vpc.region, endpoint.vpc_endpoint_type) else { continue };
        if !endpoint.service_name.is_empty() && endpoint.service_name != name {
            continue;
        }
        let named = VpcEndpoint { service_name: name.clone(), ..(**endpoint).clone() };
        let named = match old.vpc_endpoints.get(id) {
            Some(old) if **old == named => old.clone(),
            _ => Arc::new(named),
        };
        completed.get_or_insert_with(|| (**manifest).clone()).vpc_endpoints.insert(id.clone(), named);
        if !manifest.vpc_endpoint_services.contains_key(&name) {
            services.insert(name, service);
        }
    }
    let Some(mut completed) = completed else { return manifest.clone() };
    for (name, service) in services {
        let service = match old.vpc_endpoint_services.get(&name) {
            Some(old) if **old == service => old.clone(),
            _ => Arc::new(service),
        };
        completed.vpc_endpoint_services.insert(name, service);
    }
    Arc::new(completed)
}

/// Checks how an endpoint of a completed manifest names its service. Returns field, message and
/// help of the error, if there is one. `vpc` is the VPC of the endpoint.
pub fn service_error(endpoint: &VpcEndpoint, vpc: Option<&Vpc>) -> Option<(&'static str, String, Option<String>)> {
    let Some(preset) = &endpoint.service else {
        let help = "write the name of the service, or a preset such as `service: sqs` for a service of AWS";
        let is_missing = endpoint.service_name.is_empty();
        return is_missing.then(|| ("service_name", "the field `service_name` is missing".into(), Some(help.into())));
    };
    if !names().contains(&preset.as_str()) {
        let nearest = suggestion(preset, names().into_iter());
        let help =
            nearest.unwrap_or("`zonal schema` lists the presets; write `service_name` for another service".into());
        return Some(("service", format!("there is no preset for a service `{preset}`"), Some(help)));
    }
    let region = &vpc?.region;
    match service(preset, region, endpoint.vpc_endpoint_type) {
        Some((name, _)) if name == endpoint.service_name => None,
        Some((name, _)) => {
            let message =
                format!("`service: {preset}` stands for `service_name: {name}` here, which contradicts `service_name`");
            Some(("service_name", message, Some("remove one of the two fields".into())))
        }
        None => {
            let message = format!("there are no presets for the Region `{region}` of the VPC");
            Some((
                "service",
                message,
                Some("write `service_name`, and add the service to `vpc_endpoint_services`".into()),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Loaded, check::check, connectivity::Connectivity};
    use serde_json::json;

    fn manifest(region: &str, endpoint: serde_json::Value) -> Arc<Manifest> {
        let mut endpoints = json!({"vpce-1": {"vpc_endpoint_type": "Interface", "vpc_id": "vpc", "state": "Available",
            "private_dns_enabled": true, "network_interfaces": [{"availability_zone_id": "az1", "ipv4": "10.1.0.10"}]}});
        let members = endpoints["vpce-1"].as_object_mut().unwrap();
        members.extend(endpoint.as_object().unwrap().clone());
        let manifest = json!({
            "vpcs": {"vpc": {"region": region, "cidr_blocks": ["10.1.0.0/16"], "availability_zones": {"a": "az1"}}},
            "vpc_endpoints": endpoints,
        });
        Arc::new(serde_json::from_value(manifest).unwrap())
    }

    fn problems(manifest: &Arc<Manifest>) -> Vec<String> {
        let manifest = complete(manifest, &Manifest::default());
        let problems = check(&manifest, &Connectivity::new(&manifest), 0);
        let line = |problem: &crate::manifest::Problem| match &problem.help {
            Some(help) => format!("{}: {}; {help}", problem.field, problem.message),
            None => format!("{}: {}", problem.field, problem.message),
        };
        problems.iter().map(line).collect()
    }

    /// The service name, the parent of the names of endpoints, and the private names of a preset.
    fn names_of(preset: &str, region: &str) -> Option<String> {
        let (name, service) = service(preset, region, VpcEndpointType::Interface)?;
        let private: Vec<String> = service.private_dns_names.iter().map(Name::to_string).collect();
        Some(format!("{name} {} {}", service.dns_name, private.join(" ")))
    }

    #[test]
    fn preset_stands_for_the_names_of_its_service_in_the_region() {
        for (preset, region, expected) in [
            (
                "sqs",
                "eu-west-1",
                "com.amazonaws.eu-west-1.sqs sqs.eu-west-1.vpce.amazonaws.com. sqs.eu-west-1.amazonaws.com. \
                 sqs.eu-west-1.api.aws.",
            ),
            (
                "ecr.dkr",
                "us-east-1",
                "com.amazonaws.us-east-1.ecr.dkr dkr.ecr.us-east-1.vpce.amazonaws.com. *.dkr.ecr.us-east-1.amazonaws.com.",
            ),
            (
                "kinesis-streams",
                "us-gov-west-1",
                "com.amazonaws.us-gov-west-1.kinesis-streams kinesis.us-gov-west-1.vpce.amazonaws.com. \
                 kinesis.us-gov-west-1.amazonaws.com.",
            ),
            (
                "sqs",
                "cn-north-1",
                "cn.com.amazonaws.cn-north-1.sqs sqs.cn-north-1.vpce.amazonaws.com.cn. sqs.cn-north-1.amazonaws.com.cn.",
            ),
            (
                "ssm",
                "cn-north-1",
                "com.amazonaws.cn-north-1.ssm ssm.cn-north-1.vpce.amazonaws.com.cn. ssm.cn-north-1.amazonaws.com.cn.",
            ),
            (
                "transcribe",
                "cn-northwest-1",
                "cn.com.amazonaws.cn-northwest-1.transcribe.cn transcribe.cn-northwest-1.vpce.amazonaws.com.cn. \
                 transcribe.cn-northwest-1.amazonaws.com.cn.",
            ),
        ] {
            assert_eq!(names_of(preset, region).as_deref(), Some(expected));
        }
        for (preset, region) in [("sqz", "us-east-1"), ("sqs", "us-iso-east-1"), ("sqs", "us east"), ("sqs", "")] {
            assert_eq!(names_of(preset, region), None, "{preset} {region}");
        }
    }

    #[test]
    fn each_preset_exists_once_and_is_valid_in_each_partition() {
        let names = names();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        assert!(CHINA.iter().all(|name| names.contains(name)));
        for name in names {
            for region in ["us-east-1", "cn-north-1"] {
                let manifest = manifest(region, json!({"service": name, "private_dns_enabled": name != "dynamodb"}));
                let problems = problems(&manifest);
                // A service in China can lack private names.
                assert!(
                    problems.iter().all(|problem| problem.contains("has no private names")),
                    "{name}: {problems:?}"
                );
                assert!(problems.is_empty() || region == "cn-north-1" && name == "eks-auth", "{name}: {problems:?}");
            }
        }
    }

    #[test]
    fn reports_wrong_presets_with_help() {
        let found = |region: &str, endpoint| problems(&manifest(region, endpoint));
        assert_eq!(
            found("us-east-1", json!({"service": "sqss"})),
            ["service: there is no preset for a service `sqss`; did you mean `sqs`?"]
        );
        assert_eq!(
            found("us-east-1", json!({"service": "no-such-service-at-all"})),
            ["service: there is no preset for a service `no-such-service-at-all`; `zonal schema` lists the presets; \
             write `service_name` for another service"]
        );
        assert_eq!(
            found("us-iso-east-1", json!({"service": "sqs"})),
            ["service: there are no presets for the Region `us-iso-east-1` of the VPC; write `service_name`, and add \
              the service to `vpc_endpoint_services`"]
        );
        assert_eq!(
            found("us-east-1", json!({"service": "sqs", "service_name": "com.amazonaws.us-east-1.kms"})),
            ["service_name: `service: sqs` stands for `service_name: com.amazonaws.us-east-1.sqs` here, which \
              contradicts `service_name`; remove one of the two fields"]
        );
        assert_eq!(
            found("us-east-1", json!({})),
            ["service_name: the field `service_name` is missing; write the name of the service, or a preset such \
              as `service: sqs` for a service of AWS"]
        );
        assert_eq!(
            found("us-east-1", json!({"service": "sqs", "vpc_id": "other"})),
            ["vpc_id: there is no VPC `other`"]
        );
        let both = json!({"service": "sqs", "service_name": "com.amazonaws.us-east-1.sqs"});
        assert!(found("us-east-1", both).is_empty());
    }

    #[test]
    fn service_of_the_manifest_overrides_the_preset() {
        let mut own = (*manifest("us-east-1", json!({"service": "sqs"}))).clone();
        let service: VpcEndpointService = serde_json::from_value(json!({"owner_id": "amazon", "region": "us-east-1",
            "dns_name": "own.example", "private_dns_names": ["only.example"]}))
        .unwrap();
        own.vpc_endpoint_services.insert("com.amazonaws.us-east-1.sqs".into(), Arc::new(service.clone()));
        let completed = complete(&Arc::new(own), &Manifest::default());
        assert_eq!(*completed.vpc_endpoint_services["com.amazonaws.us-east-1.sqs"], service);
        assert_eq!(completed.vpc_endpoints["vpce-1"].service_name, "com.amazonaws.us-east-1.sqs");
    }

    #[test]
    fn shares_unchanged_resources_and_serves_the_names_of_presets() {
        let plain = manifest("us-east-1", json!({"service_name": "s"}));
        assert!(Arc::ptr_eq(&complete(&plain, &Manifest::default()), &plain));
        let preset = manifest("us-east-1", json!({"service": "sqs"}));
        let first = complete(&preset, &Manifest::default());
        let second = complete(&preset, &first);
        assert!(second.resource_changes(&first).is_empty());
        assert!(complete(&first, &first).resource_changes(&first).is_empty());
        let loaded = Loaded { manifest: first, ..Loaded::default() };
        let (snapshot, warnings) = crate::snapshot::compile(&loaded, &Arc::default(), None).unwrap();
        assert!(warnings.is_empty());
        let request =
            serde_json::from_value(json!({"from": "10.1.0.7", "name": "sqs.us-east-1.amazonaws.com"})).unwrap();
        let question = crate::explain::Question::new(&request).unwrap();
        let answers = crate::explain::of_manifest(&snapshot, &question, 0).summary();
        assert_eq!(answers, ["sqs.us-east-1.amazonaws.com. 60 A 10.1.0.10"]);
    }
}
