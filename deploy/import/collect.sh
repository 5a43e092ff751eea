#!/bin/bash
# This script describes the networks and the DNS of an AWS account with the AWS CLI, and writes the outputs to a directory. It only reads.
# `zonal import aws DIRECTORY` makes a manifest of them, also on another machine.
#
#   deploy/import/collect.sh DIRECTORY [REGION...]
#
# It needs the AWS CLI and Python 3. Without a Region, it takes the CLI's own one. The credentials are those of the CLI (AWS_PROFILE and so on). `policy.json` beside this script is
# an IAM policy with all permissions that it needs. An output that AWS denies is left out, and named at the end; the exit status is 1 then.
set -euo pipefail

if (($# == 0)); then
    echo "usage: $0 DIRECTORY [REGION...]" >&2
    exit 2
fi
directory=$1
shift
regions=("$@")
if ((${#regions[@]} == 0)); then
    regions=("${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}")
    if [[ -z ${regions[0]} ]]; then
        echo "the AWS CLI has no Region: name the Regions behind the directory" >&2
        exit 2
    fi
fi
export AWS_PAGER=
# Adaptive mode slows down when AWS throttles, so that others of the account get their share.
export AWS_RETRY_MODE=${AWS_RETRY_MODE:-adaptive} AWS_MAX_ATTEMPTS=${AWS_MAX_ATTEMPTS:-10}
failed=()

# collect REGION DIRECTORY SERVICE COMMAND ID [OPTION...] writes an output. ID is the resource that the output is about; it becomes a part of the
# file's name. The CLI fetches all pages and prints them as one.
collect() {
    local region=$1 out=$2 service=$3 command=$4 id=$5
    local file=$out/$service-$command${id:+.$id}.json
    mkdir -p "$out"
    if ! aws --region "$region" --output json "$service" "$command" "${@:6}" >"$file.new" 2>"$file.error"; then
        failed+=("$region: aws $service $command ${*:6}: $(tr '\n' ' ' <"$file.error")")
        rm -f "$file.new" "$file.error"
        return 0
    fi
    rm -f "$file.error"
    mv "$file.new" "$file"
}

# ids FILE QUERY prints the identifiers that a Python expression finds in an output. `d` is the output.
ids() {
    [[ -s $1 ]] || return 0
    python3 - "$1" "$2" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
for value in eval(sys.argv[2]):
    print(value.rsplit("/", 1)[-1])
END
}

for region in "${regions[@]}"; do
    out=$directory/$region
    echo "$region" >&2
    collect "$region" "$out" sts get-caller-identity ''
    for what in availability-zones vpcs subnets dhcp-options security-groups vpc-endpoints vpc-peering-connections \
        vpc-endpoint-service-configurations transit-gateways transit-gateway-attachments transit-gateway-vpc-attachments \
        transit-gateway-peering-attachments transit-gateway-route-tables route-tables managed-prefix-lists; do
        collect "$region" "$out" ec2 "describe-$what" ''
    done
    for vpc in $(ids "$out/ec2-describe-vpcs.json" '[v["VpcId"] for v in d["Vpcs"]]'); do
        for attribute in enableDnsSupport enableDnsHostnames; do
            collect "$region" "$out" ec2 describe-vpc-attribute "$attribute.$vpc" --vpc-id "$vpc" --attribute "$attribute"
        done
    done
    # AWS has hundreds of services: only those of the account's endpoints are described.
    mapfile -t services < <(ids "$out/ec2-describe-vpc-endpoints.json" \
        'sorted({e["ServiceName"] for e in d["VpcEndpoints"] if e.get("ServiceName")})')
    ((${#services[@]} == 0)) || collect "$region" "$out" ec2 describe-vpc-endpoint-services '' --service-names "${services[@]}"
    # An account can have many interfaces: only those of the endpoints are described. A filter has at most 200 values.
    mapfile -t interfaces < <(ids "$out/ec2-describe-vpc-endpoints.json" \
        '[i for e in d["VpcEndpoints"] for i in e.get("NetworkInterfaceIds", [])]')
    for ((first = 0; first < ${#interfaces[@]}; first += 200)); do
        some=$(IFS=,; echo "${interfaces[*]:first:200}")
        collect "$region" "$out" ec2 describe-network-interfaces "from-$first" --filters "Name=network-interface-id,Values=$some"
    done
    for table in $(ids "$out/ec2-describe-transit-gateway-route-tables.json" \
        '[t["TransitGatewayRouteTableId"] for t in d["TransitGatewayRouteTables"]]'); do
        collect "$region" "$out" ec2 get-transit-gateway-route-table-propagations "$table" --transit-gateway-route-table-id "$table"
    done
    for what in endpoints rules rule-associations query-log-configs query-log-config-associations configs dnssec-configs; do
        collect "$region" "$out" route53resolver "list-resolver-$what" ''
    done
    for endpoint in $(ids "$out/route53resolver-list-resolver-endpoints.json" '[e["Id"] for e in d["ResolverEndpoints"]]'); do
        collect "$region" "$out" route53resolver list-resolver-endpoint-ip-addresses "$endpoint" --resolver-endpoint-id "$endpoint"
    done
    for what in configs domain-lists rule-groups rule-group-associations; do
        collect "$region" "$out" route53resolver "list-firewall-$what" ''
    done
    for list in $(ids "$out/route53resolver-list-firewall-domain-lists.json" \
        '[l["Id"] for l in d["FirewallDomainLists"] if not l.get("ManagedOwnerName")]'); do
        collect "$region" "$out" route53resolver list-firewall-domains "$list" --firewall-domain-list-id "$list"
    done
    for group in $(ids "$out/route53resolver-list-firewall-rule-groups.json" '[g["Id"] for g in d["FirewallRuleGroups"]]'); do
        collect "$region" "$out" route53resolver list-firewall-rules "$group" --firewall-rule-group-id "$group"
    done
    collect "$region" "$out" route53profiles list-profiles ''
    collect "$region" "$out" route53profiles list-profile-associations ''
    for profile in $(ids "$out/route53profiles-list-profiles.json" '[p["Id"] for p in d["ProfileSummaries"]]'); do
        collect "$region" "$out" route53profiles list-profile-resource-associations "$profile" --profile-id "$profile"
    done
done

# Route 53 is the same in all Regions.
region=${regions[0]}
out=$directory/global
echo "Route 53" >&2
collect "$region" "$out" route53 list-hosted-zones ''
collect "$region" "$out" route53 list-health-checks ''
collect "$region" "$out" route53 list-cidr-collections ''
for collection in $(ids "$out/route53-list-cidr-collections.json" '[c["Id"] for c in d["CidrCollections"]]'); do
    collect "$region" "$out" route53 list-cidr-blocks "$collection" --collection-id "$collection"
done
for zone in $(ids "$out/route53-list-hosted-zones.json" '[z["Id"] for z in d["HostedZones"]]'); do
    collect "$region" "$out" route53 get-hosted-zone "$zone" --id "$zone"
    collect "$region" "$out" route53 list-resource-record-sets "$zone" --hosted-zone-id "$zone"
    collect "$region" "$out" route53 list-tags-for-resource "$zone" --resource-type hostedzone --resource-id "$zone"
done

echo "$(find "$directory" -name '*.json' | wc -l) outputs are in $directory" >&2
if ((${#failed[@]})); then
    echo "${#failed[@]} commands failed, and their outputs are missing:" >&2
    printf '  %s\n' "${failed[@]}" >&2
    exit 1
fi
