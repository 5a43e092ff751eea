# Windows DNS Server: forward the names of the VPCs to the inbound endpoint.
#
# Run this as an administrator, on one of the domain controllers that serve DNS: the zones reach the others with Active Directory.
# On a server that is none, leave out -ReplicationScope, and run it on each. Replace 10.2.0.53 and 10.2.16.53 by the addresses of your inbound endpoint, one in each AZ.
# Replace corp.example.com by your private hosted zones.
# In other Regions, replace ec2.internal by REGION.compute.internal. Replace 2.10.in-addr.arpa, which is for 10.2.0.0/16, by the
# reverse zones of your VPCs.
#
# -UseRecursion is left out, and meant to be: with it the server asks the public servers when the forwarders do not answer, and then
# hands out public addresses. Two seconds, so that the other address is asked while clients still wait.
$zones = @(
    'us-east-1.amazonaws.com'       # the services' private names
    'us-east-1.vpce.amazonaws.com'  # the endpoints' own names, which CNAMEs and aliases of private names lead to
    'us-east-1.api.aws'             # other private names of services
    'ec2.internal'                  # machines' own names
    '2.10.in-addr.arpa'             # the names of their addresses; where there is a zone 10.in-addr.arpa, delegate it there
    'corp.example.com'              # private hosted zones
)
foreach ($zone in $zones) {
    Add-DnsServerConditionalForwarderZone -Name $zone -MasterServers 10.2.0.53, 10.2.16.53 -ForwarderTimeout 2 -ReplicationScope Forest
}

# Windows DNS Server has no negative trust anchors, and validates below the trust points that it was given: this lists them. A
# private name below one of them would be taken for forged: where the root (`.`) is listed, let another forwarder validate.
Get-DnsServerTrustPoint
