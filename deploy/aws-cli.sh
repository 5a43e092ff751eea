#!/bin/bash
# The same by the AWS CLI, for a VPC whose nodes are there already: DHCP options that name them, or, where AmazonProvidedDNS stays, a
# Route 53 Resolver rule that sends names to them. Take the part that you need, and put in your own identifiers.
set -euo pipefail

vpc=vpc-0123456789abcdef0
node_a=10.2.0.53    # zonal in the first AZ
node_b=10.2.16.53   # and in the second one

# 1. Clients get the addresses by DHCP, when they renew their lease. AmazonProvidedDNS must not be among them: stubs would ask it as
# well, and get public addresses.
options=$(aws ec2 create-dhcp-options \
    --dhcp-configurations "Key=domain-name-servers,Values=$node_a,$node_b" \
    --tag-specifications 'ResourceType=dhcp-options,Tags=[{Key=Name,Value=zonal}]' \
    --query DhcpOptions.DhcpOptionsId --output text)
aws ec2 associate-dhcp-options --vpc-id "$vpc" --dhcp-options-id "$options"

# The way back: `aws ec2 associate-dhcp-options --vpc-id "$vpc" --dhcp-options-id ID` with the ID of the options from before, or `default`.

# 2. A VPC that keeps AmazonProvidedDNS: Resolver's outbound endpoint, one address in each AZ, and a rule for each name.
endpoint=$(aws route53resolver create-resolver-endpoint \
    --creator-request-id zonal-outbound --name zonal --direction OUTBOUND \
    --security-group-ids sg-0123456789abcdef0 \
    --ip-addresses SubnetId=subnet-0123456789abcdef0 SubnetId=subnet-0fedcba9876543210 \
    --query ResolverEndpoint.Id --output text)
for domain in us-east-1.amazonaws.com us-east-1.vpce.amazonaws.com corp.example.com; do
    rule=$(aws route53resolver create-resolver-rule \
        --creator-request-id "zonal-$domain" --name "zonal-${domain//./-}" \
        --rule-type FORWARD --domain-name "$domain" --resolver-endpoint-id "$endpoint" \
        --target-ips "Ip=$node_a,Port=53" "Ip=$node_b,Port=53" \
        --query ResolverRule.Id --output text)
    aws route53resolver associate-resolver-rule --resolver-rule-id "$rule" --vpc-id "$vpc"
done
