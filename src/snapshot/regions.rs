//! AWS Regions: where they are, for routing policies.
//!
//! AWS publishes the place of each Region (https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html):
//! a city or a state. The coordinates are those of the city, or of the state's largest city. The error is some tens of
//! kilometres, which does not change which of two Regions is nearer.

/// A Region and its place.
#[derive(Debug, PartialEq)]
pub struct Region {
    /// Its name, as in `us-east-1`.
    pub name: &'static str,
    /// Degrees north and degrees east.
    pub coordinates: (f32, f32),
    /// The continent's code in Route 53.
    pub continent: &'static str,
    /// The country's code (ISO 3166-1 alpha-2).
    pub country: &'static str,
    /// The state's code (ISO 3166-2); empty outside of the United States.
    pub subdivision: &'static str,
}

const fn region(
    name: &'static str,
    coordinates: (f32, f32),
    continent: &'static str,
    country: &'static str,
    subdivision: &'static str,
) -> Region {
    Region { name, coordinates, continent, country, subdivision }
}

/// All Regions, in the order of their names.
pub const REGIONS: &[Region] = &[
    region("af-south-1", (-33.92, 18.42), "AF", "ZA", ""),
    region("ap-east-1", (22.32, 114.17), "AS", "HK", ""),
    region("ap-east-2", (25.03, 121.57), "AS", "TW", ""),
    region("ap-northeast-1", (35.68, 139.69), "AS", "JP", ""),
    region("ap-northeast-2", (37.57, 126.98), "AS", "KR", ""),
    region("ap-northeast-3", (34.69, 135.50), "AS", "JP", ""),
    region("ap-south-1", (19.08, 72.88), "AS", "IN", ""),
    region("ap-south-2", (17.38, 78.49), "AS", "IN", ""),
    region("ap-southeast-1", (1.35, 103.82), "AS", "SG", ""),
    region("ap-southeast-2", (-33.87, 151.21), "OC", "AU", ""),
    region("ap-southeast-3", (-6.21, 106.85), "AS", "ID", ""),
    region("ap-southeast-4", (-37.81, 144.96), "OC", "AU", ""),
    region("ap-southeast-5", (3.15, 101.69), "AS", "MY", ""),
    region("ap-southeast-6", (-36.85, 174.76), "OC", "NZ", ""),
    region("ap-southeast-7", (13.76, 100.50), "AS", "TH", ""),
    region("ca-central-1", (45.50, -73.57), "NA", "CA", ""),
    region("ca-west-1", (51.05, -114.07), "NA", "CA", ""),
    region("cn-north-1", (39.90, 116.41), "AS", "CN", ""),
    region("cn-northwest-1", (38.49, 106.23), "AS", "CN", ""),
    region("eu-central-1", (50.11, 8.68), "EU", "DE", ""),
    region("eu-central-2", (47.38, 8.54), "EU", "CH", ""),
    region("eu-north-1", (59.33, 18.07), "EU", "SE", ""),
    region("eu-south-1", (45.46, 9.19), "EU", "IT", ""),
    region("eu-south-2", (41.65, -0.89), "EU", "ES", ""),
    region("eu-west-1", (53.35, -6.26), "EU", "IE", ""),
    region("eu-west-2", (51.51, -0.13), "EU", "GB", ""),
    region("eu-west-3", (48.86, 2.35), "EU", "FR", ""),
    region("il-central-1", (32.09, 34.78), "AS", "IL", ""),
    region("me-central-1", (25.20, 55.27), "AS", "AE", ""),
    region("me-south-1", (26.07, 50.56), "AS", "BH", ""),
    region("mx-central-1", (20.59, -100.39), "NA", "MX", ""),
    region("sa-east-1", (-23.55, -46.63), "SA", "BR", ""),
    region("us-east-1", (38.95, -77.45), "NA", "US", "VA"),
    region("us-east-2", (39.96, -83.00), "NA", "US", "OH"),
    region("us-gov-east-1", (39.96, -83.00), "NA", "US", "OH"),
    region("us-gov-west-1", (45.52, -122.68), "NA", "US", "OR"),
    region("us-west-1", (37.35, -121.96), "NA", "US", "CA"),
    region("us-west-2", (45.87, -119.69), "NA", "US", "OR"),
];

/// A Region by its name.
pub fn find(name: &str) -> Option<&'static Region> {
    REGIONS.binary_search_by_key(&name, |region| region.name).ok().map(|at| &REGIONS[at])
}

/// The partition of a Region: `aws`, `aws-cn` or `aws-us-gov`.
pub fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The great-circle distance of two places in kilometres (haversine formula).
pub fn distance(a: (f32, f32), b: (f32, f32)) -> f32 {
    const EARTH_RADIUS_KM: f32 = 6371.0;
    let [lat_a, lon_a, lat_b, lon_b] = [a.0, a.1, b.0, b.1].map(f32::to_radians);
    let half = |x: f32| (x / 2.0).sin().powi(2);
    let chord = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half(lon_b - lon_a);
    2.0 * EARTH_RADIUS_KM * chord.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_by_name() {
        assert!(REGIONS.is_sorted_by_key(|region| region.name));
        assert_eq!(find("eu-west-1").map(|region| region.country), Some("IE"));
        assert_eq!(find("eu-west-9"), None);
    }

    #[test]
    fn distances_are_those_of_a_globe() {
        let km = |a, b| distance(find(a).unwrap().coordinates, find(b).unwrap().coordinates);
        assert_eq!(km("eu-west-1", "eu-west-1"), 0.0);
        assert!((km("eu-west-1", "us-east-1") - 5450.0).abs() < 150.0, "{}", km("eu-west-1", "us-east-1"));
        assert!((km("ap-southeast-2", "sa-east-1") - 13_500.0).abs() < 400.0, "{}", km("ap-southeast-2", "sa-east-1"));
        assert!(km("eu-west-1", "eu-west-2") < km("eu-west-1", "eu-central-1"));
        // Across the date line.
        assert!(km("ap-southeast-6", "us-west-2") < 12_000.0);
    }
}
