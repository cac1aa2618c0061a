//! What the Network API can say no with: upstream's exceptions, their names, statuses and texts.

use api::StatusCode;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! exceptions {
    ($($name:ident { $($field:ident),* } $status:literal $text:literal;)*) => {
        /// An error of the Network API. The variants are named as upstream's exceptions, which is what clients see as `type`.
        #[derive(Debug, thiserror::Error)]
        #[allow(missing_docs)]
        pub enum Error {
            $( #[doc = concat!(stringify!($status), ": ", $text)] #[error($text)] $name { $($field: String),* }, )*
            /// The policy refuses: a rule is not met.
            #[error("{rule} is disallowed by policy")]
            PolicyNotAuthorized { rule: String },
            /// The database failed.
            #[error(transparent)]
            Database(#[from] database::Error),
        }

        impl Error {
            /// The status it is answered with.
            pub fn status(&self) -> u16 {
                match self {
                    $( Error::$name { .. } => $status, )*
                    Error::PolicyNotAuthorized { .. } => 403,
                    Error::Database(_) => 500,
                }
            }

            /// Upstream's name of the exception.
            pub fn kind(&self) -> &'static str {
                match self {
                    $( Error::$name { .. } => stringify!($name), )*
                    Error::PolicyNotAuthorized { .. } => "PolicyNotAuthorized",
                    Error::Database(_) => "HTTPInternalServerError",
                }
            }
        }
    };
}

exceptions! {
    HTTPBadRequest { msg } 400 "{msg}";
    HTTPNotFound { msg } 404 "{msg}";
    HTTPMethodNotAllowed { msg } 405 "{msg}";
    HTTPNotImplemented { msg } 501 "{msg}";
    RevisionNumberConstraintFailed { expected, current } 412 "Constrained to {expected}, but current revision is {current}";
    InvalidScope { msg } 403 "{msg}";
    BadRequest { resource, msg } 400 "Bad {resource} request: {msg}.";
    InvalidInput { msg } 400 "Invalid input for operation: {msg}.";
    AdminRequired { reason } 403 "User does not have admin privileges: {reason}.";
    NotAuthorized { } 403 "Not authorized.";
    OverQuota { overs } 409 "Quota exceeded for resources: {overs}.";
    InvalidQuotaValue { unders } 409 "Change would make usage less than 0 for the following resources: {unders}.";
    TenantQuotaNotFound { project } 404 "Quota for project {project} could not be found.";
    QuotaMissingTenant { } 400 "Tenant-id was missing from quota request.";
    NetworkNotFound { id } 404 "Network {id} could not be found.";
    NetworkInUse { id, reason } 409 "Unable to complete operation on network {id}. {reason}.";
    NetworkMTUSubnetConflict { id, mtu } 409 "MTU of {id} is not valid, subnet requires a minimum of {mtu}";
    InvalidSharedSetting { network } 409 "Unable to reconfigure sharing settings for network {network}. Multiple projects are using it.";
    ExternalNetworkInUse { id } 409 "External network {id} cannot be updated to be made non-external, since it has existing gateway ports.";
    DefaultExternalNetworkExists { net_id } 409 "A default external network already exists: {net_id}.";
    AutoAllocationFailure { reason } 409 "Deployment error: {reason}.";
    NetworkAmbiguous { msg } 409 "{msg}";
    NoUniqueMatch { msg } 409 "{msg}";
    PortRequiresFixedIP { port_id } 400 "Port {port_id} requires a FixedIP in order to be used.";
    ExternalNetworkAttachForbidden { network_uuid } 403 "It is not allowed to create an interface on external network {network_uuid}";
    FixedIpAlreadyInUse { address, instance_uuid } 400 "Fixed IP address {address} is already in use on instance {instance_uuid}.";
    NetworkRequiresSubnet { id } 400 "Network {id} requires a subnet in order to boot instances on.";
    NoNetworkAvailable { } 503 "Unable to create the network. No project network is available for allocation.";
    VlanIdInUse { vlan_id, physical_network } 409 "Unable to create the network. The VLAN {vlan_id} on physical network {physical_network} is in use.";
    TunnelIdInUse { id } 409 "Unable to create the network. The tunnel ID {id} is in use.";
    FlatNetworkInUse { physical_network } 409 "Unable to create the flat network. Physical network {physical_network} is in use.";
    SegmentsSetInConjunctionWithProviders { } 400 "Segments and provider values cannot both be set.";
    SegmentsContainDuplicateEntry { } 400 "Duplicate segment entry in request.";
    SegmentNotFound { id } 404 "Segment {id} could not be found.";
    SegmentInUse { id, reason } 409 "Segment '{id}' cannot be deleted: {reason}.";
    NetworkIdsDontMatch { subnet_network, segment_id } 400 "The subnet's network id, '{subnet_network}', doesn't match the network_id of segment '{segment_id}'.";
    SubnetsNotAllAssociatedWithSegments { network_id } 400 "All of the subnets on network '{network_id}' must either all be associated with segments or all not associated with any segment.";
    AvailabilityZoneNotFound { zone } 404 "AvailabilityZone {zone} could not be found.";
    SubnetNotFound { id } 404 "Subnet {id} could not be found.";
    SubnetInUse { id, reason } 409 "Unable to complete operation on subnet {id}: {reason}.";
    InvalidAllocationPool { pool } 400 "The allocation pool {pool} is not valid.";
    OverlappingAllocationPools { pool_1, pool_2, subnet_cidr } 409 "Found overlapping allocation pools: {pool_1} {pool_2} for subnet {subnet_cidr}.";
    OutOfBoundsAllocationPool { pool, subnet_cidr } 400 "The allocation pool {pool} spans beyond the subnet cidr {subnet_cidr}.";
    GatewayConflictWithAllocationPools { ip_address, pool } 409 "Gateway ip {ip_address} conflicts with allocation pool {pool}.";
    GatewayIpInUse { ip_address, port_id } 409 "Current gateway ip {ip_address} already in use by port {port_id}. Unable to update.";
    DNSNameServersExhausted { subnet_id, quota } 400 "Unable to complete operation for {subnet_id}. The number of DNS nameservers exceeds the limit {quota}.";
    HostRoutesExhausted { subnet_id, quota } 400 "Unable to complete operation for {subnet_id}. The number of host routes exceeds the limit {quota}.";
    InvalidSubnetServiceType { service_type } 400 "Subnet service type {service_type} does not correspond to a valid device owner.";
    InvalidInputSubnetServiceType { service_type } 400 "Subnet service type {service_type} is not a string.";
    SubnetPoolNotFound { id } 404 "Subnet pool {id} could not be found.";
    EmptySubnetPoolPrefixList { } 400 "Empty subnet pool prefix list.";
    PrefixVersionMismatch { } 400 "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.";
    UnsupportedMinSubnetPoolPrefix { prefix, version } 400 "Prefix '{prefix}' not supported in IPv{version} pool.";
    IllegalSubnetPoolPrefixBounds { prefix_type, prefixlen, base_prefix_type, base_prefixlen } 400 "Illegal prefix bounds: {prefix_type}={prefixlen}, {base_prefix_type}={base_prefixlen}.";
    IllegalSubnetPoolPrefixUpdate { msg } 400 "Illegal update to prefixes: {msg}.";
    IllegalSubnetPoolUpdate { reason } 400 "Illegal subnetpool update : {reason}.";
    SubnetAllocationError { reason } 500 "Failed to allocate subnet: {reason}.";
    AddressScopePrefixConflict { } 409 "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.";
    IllegalSubnetPoolAssociationToAddressScope { subnetpool_id, address_scope_id } 400 "Illegal subnetpool association: subnetpool {subnetpool_id} cannot be associated with address scope {address_scope_id}.";
    IllegalSubnetPoolIpVersionAssociationToAddressScope { subnetpool_id, address_scope_id, ip_version } 400 "Illegal subnetpool association: subnetpool {subnetpool_id} cannot associate with address scope {address_scope_id} because subnetpool ip_version is not {ip_version}.";
    MinPrefixSubnetAllocationError { prefixlen, min_prefixlen } 400 "Unable to allocate subnet with prefix length {prefixlen}, minimum allowed prefix is {min_prefixlen}.";
    MaxPrefixSubnetAllocationError { prefixlen, max_prefixlen } 400 "Unable to allocate subnet with prefix length {prefixlen}, maximum allowed prefix is {max_prefixlen}.";
    SubnetPoolDeleteError { reason } 400 "Unable to delete subnet pool: {reason}.";
    SubnetPoolQuotaExceeded { } 409 "Per-project subnet pool prefix quota exceeded.";
    NetworkSubnetPoolAffinityError { } 400 "Subnets hosted on the same network must be allocated from the same subnet pool.";
    NetworkAddressScopeAffinityError { } 400 "Subnets of the same address family hosted on the same network must all participate in the same address scope.";
    AddressScopeNotFound { id } 404 "Address scope {id} could not be found.";
    AddressScopeInUse { id } 409 "Unable to complete operation on address scope {id}. There are one or more subnet pools in use on the address scope.";
    AddressScopeUpdateError { id, reason } 400 "Unable to update address scope {id} : {reason}.";
    AddressGroupNotFound { id } 404 "Address group {id} could not be found.";
    AddressGroupInUse { id } 409 "Address group {id} is in use on one or more security group rules.";
    AddressesNotFound { addresses, id } 404 "Addresses {addresses} not found in the address group {id}.";
    AddressesAlreadyExist { addresses, id } 400 "Addresses {addresses} already exist in the address group {id}.";
    PortNotFound { id } 404 "Port {id} could not be found.";
    PortInUse { port_id, net_id, device_id } 409 "Unable to complete operation on port {port_id} for network {net_id}. Port already has an attached device {device_id}.";
    ServicePortInUse { port_id, reason } 409 "Port {port_id} cannot be deleted directly via the port API: {reason}.";
    PortBound { port_id, vif_type, old_mac, new_mac } 409 "Unable to complete operation on port {port_id}, port is already bound, port type: {vif_type}, old_mac {old_mac}, new_mac {new_mac}.";
    MacAddressInUse { net_id, mac } 409 "Unable to complete operation for network {net_id}. The mac address {mac} is in use.";
    InvalidIpForNetwork { ip_address } 400 "IP address {ip_address} is not a valid IP for any of the subnets on the specified network.";
    InvalidIpForSubnet { ip_address } 400 "IP address {ip_address} is not a valid IP for the specified subnet.";
    IpAddressAlreadyAllocated { ip, subnet_id } 409 "IP address {ip} already allocated in subnet {subnet_id}";
    IpAddressGenerationFailure { net_id } 409 "No more IP addresses available on network {net_id}.";
    IpAddressGenerationFailureNoMatchingSubnet { network_id, service_type } 409 "No valid service subnet for the given device owner, network {network_id}, service type {service_type}.";
    AllocationOnAutoAddressSubnet { ip, subnet_id } 400 "IPv6 address {ip} cannot be directly assigned to a port on subnet {subnet_id} as the subnet is configured for automatic addresses";
    UnsupportedPortDeviceOwner { op, port_id, device_owner } 409 "Operation {op} is not supported for device_owner {device_owner} on port {port_id}.";
    DeviceIDNotOwnedByTenant { device_id } 409 "The following device_id {device_id} is not owned by your project or matches another project router.";
    AllowedAddressPairsMissingIP { } 400 "AllowedAddressPair must contain ip_address";
    AddressPairAndPortSecurityRequired { } 409 "Port Security must be enabled in order to have allowed address pairs on a port.";
    DuplicateAddressPairInRequest { mac_address, ip_address } 400 "Request contains duplicate address pair: mac_address {mac_address} ip_address {ip_address}.";
    AllowedAddressPairExhausted { quota } 400 "The number of allowed address pair exceeds the maximum {quota}.";
    PortSecurityPortHasSecurityGroup { } 409 "Port has security group associated. Cannot disable port security or IP address until security group is removed.";
    PortSecurityAndIPRequiredForSecurityGroups { } 400 "Port security must be enabled and port must have an IP address in order to use security groups.";
    PortBindingNotFound { port_id, host } 404 "Binding for port {port_id} for host {host} could not be found.";
    PortBindingAlreadyActive { port_id, host } 409 "Binding for port {port_id} on host {host} is already active.";
    PortBindingAlreadyExists { port_id, host } 409 "Binding for port {port_id} on host {host} already exists.";
    TagResourceNotFound { resource, id } 404 "Resource {resource} {id} could not be found.";
    TagNotFound { tag } 404 "Tag {tag} could not be found.";
    SecurityGroupInvalidPortRange { } 400 "For TCP/UDP protocols, port_range_min must be <= port_range_max";
    SecurityGroupInvalidProtocolForPort { protocol, valid } 400 "Ports cannot be specified for protocol {protocol}. Ports are only supported for {valid}.";
    SecurityGroupInvalidPortValue { port } 400 "Invalid value for port {port}";
    SecurityGroupInvalidIcmpValue { field, attr, value } 400 "Invalid value for ICMP {field} ({attr}) {value}. It must be 0 to 255.";
    SecurityGroupEthertypeConflictWithProtocol { ethertype, protocol } 400 "Invalid ethertype {ethertype} for protocol {protocol}.";
    SecurityGroupMissingIcmpType { value } 400 "ICMP code (port-range-max) {value} is provided but ICMP type (port-range-min) is missing.";
    SecurityGroupInUse { id } 409 "Security Group {id} in use.";
    SecurityGroupCannotRemoveDefault { } 409 "Insufficient rights for removing default security group.";
    SecurityGroupCannotUpdateDefault { } 409 "Updating default security group not allowed.";
    SecurityGroupDefaultAlreadyExists { } 409 "Default security group already exists.";
    SecurityGroupRuleInvalidProtocol { protocol, values } 400 "Security group rule protocol {protocol} not supported. Only protocol values {values} and integer representations [0 to 255] are supported.";
    SecurityGroupRulesNotSingleProject { } 400 "Multiple project_ids in bulk security group rule create not allowed";
    SecurityGroupMultipleRemoteEntites { } 400 "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.";
    SecurityGroupProtocolRequiredWithPorts { } 400 "Must also specify protocol if port range is given.";
    SecurityGroupNotSingleGroupRules { } 400 "Only allowed to update rules for one security profile at a time";
    SecurityGroupNotFound { id } 404 "Security group {id} does not exist";
    SecurityGroupRuleNotFound { id } 404 "Security group rule {id} does not exist";
    DuplicateSecurityGroupRuleInPost { } 409 "Duplicate Security Group Rule in POST.";
    SecurityGroupRuleExists { rule_id } 409 "Security group rule already exists. Rule id is {rule_id}.";
    SecurityGroupRuleParameterConflict { ethertype, cidr } 400 "Conflicting value ethertype {ethertype} for CIDR {cidr}";
    SecurityGroupConflict { reason } 409 "Error {reason} while attempting the operation.";
    SecurityGroupRuleInvalidEtherType { ethertype, values } 400 "Security group rule for ethertype '{ethertype}' not supported. Allowed values are {values}.";
    InvalidCIDR { input } 400 "Invalid CIDR {input} given as IP prefix.";
    DefaultSecurityGroupRuleNotFound { id } 404 "Default Security Group rule {id} does not exist";
    DefaultSecurityGroupRuleExists { rule_id } 409 "Default Security group rule already exists. Rule id is {rule_id}.";
    RouterNotFound { id } 404 "Router {id} could not be found";
    RouterInUse { id, reason } 409 "Router {id} {reason}";
    RouterInterfaceNotFound { router_id, port_id } 404 "Router {router_id} does not have an interface with id {port_id}";
    RouterInterfaceNotFoundForSubnet { router_id, subnet_id } 404 "Router {router_id} has no interface on subnet {subnet_id}";
    RouterInterfaceInUseByFloatingIP { router_id, subnet_id } 409 "Router interface for subnet {subnet_id} on router {router_id} cannot be deleted, as it is required by one or more floating IPs.";
    RouterInterfaceInUseByRoute { router_id, subnet_id } 409 "Router interface for subnet {subnet_id} on router {router_id} cannot be deleted, as it is required by one or more routes.";
    RouterExternalGatewayInUseByFloatingIp { router_id, net_id } 409 "Gateway cannot be updated for router {router_id}, since a gateway to external network {net_id} is required by one or more floating IPs.";
    InvalidRoutes { routes, reason } 400 "Invalid format for routes: {routes}, {reason}";
    SubnetMismatchForPort { port_id, subnet_id } 400 "Subnet on port {port_id} does not match the requested subnet {subnet_id}.";
    FloatingIPNotFound { id } 404 "Floating IP {id} could not be found";
    ExternalGatewayForFloatingIPNotFound { external_network_id, subnet_id, port_id } 404 "External network {external_network_id} is not reachable from subnet {subnet_id}.  Therefore, cannot associate Port {port_id} with a Floating IP.";
    FloatingIPPortAlreadyAssociated { floating_ip_address, fip_id, port_id, fixed_ip, net_id } 409 "Cannot associate floating IP {floating_ip_address} ({fip_id}) with port {port_id} using fixed IP {fixed_ip}, as that fixed IP already has a floating IP on external network {net_id}.";
    FipAssociated { port_id } 409 "Unable to complete the operation on port {port_id} because the port still has an associated floating IP.";
    ExternalIpAddressExhausted { net_id } 400 "Unable to find any IP address on external network {net_id}.";
    PortForwardingNotFound { id } 404 "Port Forwarding {id} could not be found.";
    PortHasBindingFloatingIP { floating_ip_address, fip_id, port_id, fixed_ip } 409 "Cannot create port forwarding to floating IP {floating_ip_address} ({fip_id}) with port {port_id} using fixed IP {fixed_ip}, as that port already has a binding floating IP.";
    ConntrackHelperNotFound { id } 404 "Conntrack Helper {id} could not be found.";
    ConntrackHelperNotAllowed { helper } 400 "Conntrack Helper {helper} is not allowed.";
    InvalidProtocolForHelper { helper, protocol, supported_protocols } 400 "Conntrack Helper {helper} does not support: {protocol}. Supported protocols are: {supported_protocols}";
    RouterGatewayInUseByNDPProxy { router_id } 409 "Unable to unset external gateway of router {router_id}, There are one or more ndp proxies still in use on the router.";
    RouterInterfaceInUseByNDPProxy { router_id, subnet_id } 409 "Unable to remove subnet {subnet_id} from router {router_id}, There are one or more ndp proxies still in use on the subnet.";
    AddressScopeConflict { ext_address_scope, internal_address_scope } 409 "The IPv6 address scope {ext_address_scope} of external network conflict with internal network's IPv6 address scope {internal_address_scope}.";
    RouterGatewayNotValid { router_id, reason } 409 "Can not enable ndp proxy on router {router_id}, {reason}.";
    RouterNDPProxyNotEnable { router_id } 409 "The enable_ndp_proxy parameter of router {router_id} must be set as True while create ndp proxy entry on it.";
    PortUnreachableRouter { port_id, router_id } 409 "The port {port_id} cannot reach the router {router_id} by IPv6 subnet.";
    InvalidAddress { address, reason } 400 "The address {address} is invalid, reason: {reason}.";
    NDPProxyNotFound { id } 404 "Ndp proxy {id} could not be found.";
    LocalIPNotFound { id } 404 "Local IP {id} could not be found.";
    LocalIPInUse { id } 409 "Local IP {id} is still associated with one or more ports.";
    LocalIPNoIP { port_id } 400 "Specified Port {port_id} has no fixed IPs configured.";
    LocalIPRequestedIPNotFound { port_id, ip } 400 "Specified Port {port_id} does not have requested IP address: {ip}.";
    LocalIPNoRequestedIP { port_id } 400 "Specified Port {port_id} has several IPs, should specify exact IP address to use for Local IP.";
    LocalIPPortOrNetworkRequired { } 400 "Either Port ID or Network ID must be specified for Local IP create.";
    LocalIPAssociationNotFound { local_ip_id, port_id } 404 "Local IP {local_ip_id} association with port {port_id} could not be found.";
    FipInUseByPortForwarding { id } 409 "Floating IP {id} in use by Port Forwarding resources.";
    Conflict { } 409 "An unknown exception occurred.";
    AgentNotFound { id } 404 "Agent {id} could not be found.";
    RbacPolicyNotFound { id, object_type } 404 "RBAC policy of type {object_type} with ID {id} not found";
    RbacPolicyInUse { object_id, details } 409 "RBAC policy on object {object_id} cannot be removed because other objects depend on it.\nDetails: {details}";
    DuplicateRbacPolicy { } 409 "An RBAC policy already exists with those values.";
    InvalidRbacPolicyType { object_type, valid_types } 400 "Invalid object type '{object_type}'. Valid object types: {valid_types}.";
    CallbackFailure { msg } 409 "{msg}";
    ObjectNotFound { id } 404 "Object {id} not found.";
    QosPolicyNotFound { id } 404 "QoS policy {id} could not be found.";
    QosRuleNotFound { rule_id, policy_id } 404 "QoS rule {rule_id} for policy {policy_id} could not be found.";
    QosPolicyInUse { policy_id, object_type, object_id } 409 "QoS Policy {policy_id} is used by {object_type} {object_id}.";
    QoSPolicyDefaultAlreadyExists { project_id } 409 "A default QoS policy exists for project {project_id}.";
    QoSRulesConflict { new_rule_type, rule_id, policy_id } 409 "Rule {new_rule_type} conflicts with rule {rule_id} which already exists in QoS Policy {policy_id}.";
    QoSRuleParameterConflict { rule_value, policy_id, existing_rule, existing_value } 409 "Unable to add the rule with value {rule_value} to the policy {policy_id} as the existing rule of type {existing_rule} has value {existing_value}.";
    PolicyRemoveAuthorizationError { policy_id } 403 "Failed to remove provided policy {policy_id} because you are not authorized.";
    InvalidDHCPAgent { id } 404 "Agent {id} is not a valid DHCP Agent or has been disabled.";
    NetworkHostedByDHCPAgent { network_id, agent_id } 409 "The network {network_id} has been already hosted by the DHCP Agent {agent_id}.";
    NetworkNotHostedByDhcpAgent { network_id, agent_id } 409 "The network {network_id} is not hosted by the DHCP agent {agent_id}.";
    InvalidL3Agent { id } 404 "Agent {id} is not a L3 Agent or has been disabled";
    RouterHostedByL3Agent { router_id, agent_id } 409 "The router {router_id} has been already hosted by the L3 Agent {agent_id}.";
    RouterNotHostedByL3Agent { router_id, agent_id } 409 "The router {router_id} is not hosted by the L3 Agent {agent_id}.";
    MeteringLabelNotFound { id } 404 "Metering label '{id}' does not exist.";
    MeteringLabelRuleNotFound { id } 404 "Metering label rule '{id}' does not exist.";
    NetworkSegmentRangeNotFound { id } 404 "Network Segment Range {id} could not be found.";
    NetworkSegmentRangeDefaultReadOnly { id } 400 "Network Segment Range {id} is a default segment range which could not be updated or deleted.";
    NetworkSegmentRangeOverlaps { range_id } 409 "Network segment range overlaps with range(s) with id {range_id}";
    NetworkSegmentRangeReferencedByProject { id } 409 "Network Segment Range {id} is referenced by one or more project networks.";
    NetworkVlanRangeError { range, reason } 400 "Invalid network VLAN range: '{range}' - '{reason}'.";
    NetworkTunnelRangeError { range, reason } 400 "Invalid network tunnel range: '{range}' - {reason}.";
    LogResourceNotFound { id } 404 "Log resource {id} could not be found.";
    InvalidLogResourceType { resource_type } 400 "Invalid log resource_type: {resource_type}.";
    ResourceNotFound { resource_id } 404 "Resource {resource_id} could not be found.";
    TargetResourceNotFound { target_id } 404 "Target resource {target_id} could not be found.";
    InvalidResourceConstraint { resource, resource_id, target_resource, target_id } 400 "Invalid resource constraint between resource ({resource} {resource_id}) and target resource ({target_resource} {target_id}).";
    FlavorNotFound { id } 404 "Flavor {id} could not be found.";
    FlavorInUse { id } 409 "Flavor {id} is used by some service instance.";
    ServiceProfileNotFound { id } 404 "Service Profile {id} could not be found.";
    ServiceProfileInUse { id } 409 "Service Profile {id} is used by some service instance.";
    ServiceProfileEmpty { } 400 "Service Profile needs either a driver or metainfo.";
    ServiceProfileDriverNotFound { driver } 404 "Service Profile driver {driver} could not be found.";
    FlavorServiceProfileBindingExists { sp_id, fl_id } 409 "Service Profile {sp_id} is already associated with flavor {fl_id}.";
    FlavorServiceProfileBindingNotFound { sp_id, fl_id } 404 "Service Profile {sp_id} is not associated with flavor {fl_id}.";
    FlavorDisabled { } 503 "Flavor is not enabled.";
    InvalidServiceType { service_type } 400 "Invalid service type: {service_type}.";
    SubPortNotFound { port_id, trunk_id } 404 "SubPort {port_id} on trunk {trunk_id} could not be found.";
    DuplicateSubPort { segmentation_type, segmentation_id, trunk_id } 409 "segmentation_type {segmentation_type} and segmentation_id {segmentation_id} already in use on trunk {trunk_id}.";
    ParentPortInUse { port_id } 409 "Port {port_id} is currently in use and is not eligible for use as a parent port.";
    SubPortMtuGreaterThanTrunkPortMtu { port_mtu, port_id, trunk_mtu, trunk_id } 409 "MTU {port_mtu} of subport {port_id} cannot be greater than MTU {trunk_mtu} of trunk {trunk_id}.";
    TrunkInUse { id } 409 "Trunk {id} is currently in use.";
    TrunkDisabled { id } 409 "Trunk {id} is currently disabled.";
    TrunkNotFound { id } 404 "Trunk {id} could not be found.";
    TrunkPortInUse { port_id } 409 "Port {port_id} is in use by another trunk.";
    PortInUseAsTrunkParent { port_id, trunk_id } 409 "Port {port_id} is currently a parent port for trunk {trunk_id}.";
    PortInUseAsSubPort { port_id, trunk_id } 409 "Port {port_id} is currently a subport for trunk {trunk_id}.";
}

impl Error {
    /// webob's 400 with this text.
    pub fn bad(msg: impl Into<String>) -> Error {
        Error::HTTPBadRequest { msg: msg.into() }
    }

    /// `InvalidInput` with this text.
    pub fn input(msg: impl Into<String>) -> Error {
        Error::InvalidInput { msg: msg.into() }
    }

    /// `BadRequest` about a resource.
    pub fn request(resource: &str, msg: impl Into<String>) -> Error {
        Error::BadRequest { resource: resource.into(), msg: msg.into() }
    }

    /// What is said of a path that is not there, and of a resource whose existence is none of the caller's business.
    pub fn hidden() -> Error {
        Error::HTTPNotFound { msg: "The resource could not be found.".into() }
    }

    /// Whether it says that something is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == 404
    }
}

impl From<Error> for api::Error {
    fn from(error: Error) -> api::Error {
        match error {
            Error::Database(source) => source.into(),
            error => {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                api::Error::new(status, error.to_string()).kind(error.kind())
            }
        }
    }
}
