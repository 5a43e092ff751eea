#!/bin/bash
# This script points VPCs at zonal nodes that already run. It calls the AWS CLI. Replace the identifiers, addresses and domains in this file by
# your own, and run the part that you need:
#
#   deploy/aws-cli.sh dhcp       # puts the nodes' addresses into the DHCP options of the nodes' VPC
#   deploy/aws-cli.sh resolver   # for another VPC, which keeps AmazonProvidedDNS: Route 53 Resolver rules forward the domains to the nodes
set -euo pipefail

vpc=vpc-0123456789abcdef0              # the nodes' VPC
forwarding_vpc=vpc-0fedcba9876543210   # the VPC that keeps AmazonProvidedDNS
node_a=10.2.0.53    # zonal in the first AZ
node_b=10.2.16.53   # and in the second one

# A DHCP options set has at most four name servers. Clients get them when they renew their lease. Do not add AmazonProvidedDNS: stub
# resolvers would ask it too, and get public addresses.
#
# To undo this, run `aws ec2 associate-dhcp-options --vpc-id VPC --dhcp-options-id ID` with the ID of the VPC's previous options set, or with
# `default` if it had none.
dhcp() {
    options=$(aws ec2 create-dhcp-options \
        --dhcp-configurations "Key=domain-name-servers,Values=$node_a,$node_b" \
        --tag-specifications 'ResourceType=dhcp-options,Tags=[{Key=Name,Value=zonal}]' \
        --query DhcpOptions.DhcpOptionsId --output text)
    aws ec2 associate-dhcp-options --vpc-id "$vpc" --dhcp-options-id "$options"
}

# This makes an outbound endpoint of Route 53 Resolver in the nodes' VPC, with one address in each AZ, and one FORWARD rule per domain.
#
# Do not associate the rules with the nodes' own VPC. Nodes that forward to 169.254.169.253 (AmazonProvidedDNS) would get their own queries
# back, and answer SERVFAIL.
resolver() {
    if [[ $forwarding_vpc == "$vpc" ]]; then
        echo "forwarding_vpc: $vpc is the nodes' own VPC: their own queries would come back to them; choose another VPC" >&2
        exit 1
    fi
    endpoint=$(aws route53resolver create-resolver-endpoint \
        --creator-request-id zonal-outbound --name zonal --direction OUTBOUND \
        --security-group-ids sg-0123456789abcdef0 \
        --ip-addresses SubnetId=subnet-0123456789abcdef0 SubnetId=subnet-0fedcba9876543210 \
        --query ResolverEndpoint.Id --output text)
    for domain in us-east-1.amazonaws.com us-east-1.vpce.amazonaws.com us-east-1.api.aws corp.example.com; do
        rule=$(aws route53resolver create-resolver-rule \
            --creator-request-id "zonal-$domain" --name "zonal-${domain//./-}" \
            --rule-type FORWARD --domain-name "$domain" --resolver-endpoint-id "$endpoint" \
            --target-ips "Ip=$node_a,Port=53" "Ip=$node_b,Port=53" \
            --query ResolverRule.Id --output text)
        aws route53resolver associate-resolver-rule --resolver-rule-id "$rule" --vpc-id "$forwarding_vpc"
    done
}

case ${1-} in
    dhcp | resolver) "$1" ;;
    *)
        sed -n 's/^#   //p' "$0" >&2
        exit 2
        ;;
esac
