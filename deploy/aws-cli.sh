#!/bin/bash
# The same by the AWS CLI, for a VPC whose nodes are there already. Put in your own identifiers, and run the part that you need:
#
#   deploy/aws-cli.sh dhcp       # the VPC's DHCP options name the nodes
#   deploy/aws-cli.sh resolver   # for another VPC, where AmazonProvidedDNS stays: a Route 53 Resolver rule for each name, to the nodes
set -euo pipefail

vpc=vpc-0123456789abcdef0              # where the nodes are
forwarding_vpc=vpc-0fedcba9876543210   # the one that keeps AmazonProvidedDNS
node_a=10.2.0.53    # zonal in the first AZ
node_b=10.2.16.53   # and in the second one

# Clients get the addresses, four at most, by DHCP, when they renew their lease. AmazonProvidedDNS must not be among them: stubs would
# ask it as well, and get public addresses.
#
# The way back: `aws ec2 associate-dhcp-options --vpc-id VPC --dhcp-options-id ID` with the ID of the options from before, or `default`.
dhcp() {
    options=$(aws ec2 create-dhcp-options \
        --dhcp-configurations "Key=domain-name-servers,Values=$node_a,$node_b" \
        --tag-specifications 'ResourceType=dhcp-options,Tags=[{Key=Name,Value=zonal}]' \
        --query DhcpOptions.DhcpOptionsId --output text)
    aws ec2 associate-dhcp-options --vpc-id "$vpc" --dhcp-options-id "$options"
}

# Resolver's outbound endpoint, one address in each AZ, in the nodes' VPC, and a rule for each name.
#
# Never with the nodes' own VPC: nodes that forward to 169.254.169.253 would get the names back, and answer SERVFAIL.
resolver() {
    if [[ $forwarding_vpc == "$vpc" ]]; then
        echo "the nodes are in $vpc: their own queries would come back to them" >&2
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
