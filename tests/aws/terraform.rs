//! The sequences of calls that Terraform's AWS provider makes, by boto3.

use super::{
    resolver::with_security_group,
    tools::{boto3, can_run_here, pushed},
};
use crate::harness::tree;
use serde_json::json;

#[test]
fn serves_the_calls_of_terraform_for_resolver_zones_and_profiles() {
    if !can_run_here() {
        return;
    }
    let server = pushed(with_security_group());
    let script = std::fs::read_to_string(tree("tests/aws/terraform.py")).unwrap();
    let done = boto3(&server, &script);
    assert_eq!(
        done,
        json!([
            "aws_route53_resolver_endpoint",
            "aws_route53_resolver_rule",
            "aws_route53_resolver_rule_association",
            "aws_route53_resolver_query_log_config",
            "aws_route53_resolver_query_log_config_association",
            "aws_route53_resolver_config",
            "aws_route53_resolver_dnssec_config",
            "aws_route53_zone",
            "aws_route53_record",
            "aws_route53_vpc_association_authorization",
            "aws_route53_zone_association",
            "aws_route53_resolver_firewall_domain_list",
            "aws_route53_resolver_firewall_rule_group",
            "aws_route53_resolver_firewall_rule",
            "aws_route53_resolver_firewall_rule_group_association",
            "aws_route53_resolver_firewall_config",
            "aws_route53_health_check",
            "aws_route53profiles_profile",
            "aws_route53profiles_association",
            "aws_route53profiles_resource_association",
        ])
    );
}
