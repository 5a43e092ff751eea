//! The sequences of calls that Terraform's AWS provider makes, by boto3, with DNS queries after the calls that change answers.

use super::{
    resolver::with_security_group,
    tools::{boto3, can_run_here, pushed},
};
use crate::harness::tree;
use serde_json::{Value, json};

/// Runs the sequences of a file. Returns the names of the resources.
fn sequences(manifest: Value, file: &str) -> Value {
    let read = |file: &str| std::fs::read_to_string(tree("tests/aws/terraform").join(file)).unwrap();
    boto3(&pushed(manifest), &format!("{}\n{}", read("sequence.py"), read(file)))
}

#[test]
fn serves_the_calls_of_terraform_for_resolver_zones_and_profiles() {
    if !can_run_here() {
        return;
    }
    assert_eq!(
        sequences(with_security_group(), "resolver.py"),
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
            "aws_route53_delegation_set",
            "aws_route53_resolver_firewall_domain_list",
            "aws_route53_resolver_firewall_rule_group",
            "aws_route53_resolver_firewall_rule",
            "aws_route53_resolver_firewall_rule_group_association",
            "aws_route53_resolver_firewall_config",
            "aws_route53_health_check",
            "aws_route53profiles_profile",
            "aws_route53profiles_association",
            "aws_route53profiles_resource_association (zone)",
            "aws_route53profiles_resource_association",
        ])
    );
}

#[test]
fn serves_the_calls_of_terraform_for_networks_and_endpoints() {
    if !can_run_here() {
        return;
    }
    assert_eq!(
        sequences(json!({"generation": 1}), "networks.py"),
        json!([
            "aws_vpc",
            "aws_vpc_ipv4_cidr_block_association",
            "aws_vpc_ipv6_cidr_block_association",
            "aws_subnet",
            "aws_vpc_dhcp_options",
            "aws_vpc_dhcp_options_association",
            "aws_security_group",
            "aws_vpc_endpoint",
            "aws_vpc_endpoint (Gateway)",
            "aws_vpc_endpoint_subnet_association",
            "aws_vpc_endpoint_security_group_association",
            "aws_vpc_endpoint_route_table_association",
            "aws_vpc_endpoint_policy",
            "aws_vpc_endpoint_private_dns",
            "aws_vpc_endpoint_service",
            "aws_vpc_endpoint_service_allowed_principal",
            "aws_vpc_endpoint_service_private_dns_verification",
            "aws_vpc_endpoint_connection_accepter",
            "aws_vpc_peering_connection",
            "aws_vpc_peering_connection (auto_accept)",
            "aws_vpc_peering_connection_accepter",
            "aws_vpc_peering_connection_options",
            "aws_ec2_transit_gateway",
            "aws_ec2_transit_gateway_vpc_attachment",
            "aws_ec2_transit_gateway_vpc_attachment_accepter",
            "aws_ec2_transit_gateway_route_table",
            "aws_ec2_transit_gateway_route_table_association",
            "aws_ec2_transit_gateway_route_table_propagation",
            "aws_ec2_transit_gateway_peering_attachment",
            "aws_ec2_transit_gateway_peering_attachment_accepter",
            "aws_ec2_tag",
        ])
    );
}
