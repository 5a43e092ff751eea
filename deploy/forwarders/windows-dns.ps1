# Windows DNS Server: forward the names of the VPCs to the inbound endpoint.
#
# Run this as an administrator on a domain controller that serves DNS. Active Directory replicates the zones to the others.
# On other servers, leave out -ReplicationScope and run this on each server. Replace 10.2.0.53 and 10.2.16.53 by the addresses of your inbound endpoint, one in each AZ.
# Replace corp.example.com by your private hosted zones.
# In other Regions, replace ec2.internal by REGION.compute.internal. Replace 2.10.in-addr.arpa, which is for 10.2.0.0/16, by the
# reverse zones of your VPCs.
#
# Do not add -UseRecursion: with it, the server queries public servers if the forwarders do not answer, and then returns public
# addresses. The time-out is two seconds, so that the server queries the other address while clients still wait.
$zones = @(
    'us-east-1.amazonaws.com'       # private names of services
    'us-east-1.vpce.amazonaws.com'  # the endpoints' own names; CNAME records and aliases of private names lead to them
    'us-east-1.api.aws'             # other private names of services
    'ec2.internal'                  # names of machines
    '2.10.in-addr.arpa'             # names of the machines' addresses; if there is a zone 10.in-addr.arpa, delegate this zone in it
    'corp.example.com'              # private hosted zones
)
foreach ($zone in $zones) {
    Add-DnsServerConditionalForwarderZone -Name $zone -MasterServers 10.2.0.53, 10.2.16.53 -ForwarderTimeout 2 -ReplicationScope Forest
}

# Windows DNS Server has no negative trust anchors. It validates names below its trust points, which this command lists. If the root
# (`.`) is listed, let another forwarder validate.
Get-DnsServerTrustPoint
