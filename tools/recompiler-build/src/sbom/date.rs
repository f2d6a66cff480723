//! Seconds since 1970 as RFC 3339 text: the one date of an SBOM, and it comes from the caller.

/// `2026-11-29T19:00:00Z`. The civil date by the usual arithmetic on years that begin in March.
pub(super) fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;
    use std::process::Command;

    #[test]
    fn dates_are_those_of_date_1() {
        for seconds in [0, 86_399, 951_782_400, 951_868_800, 1_709_164_800, 1_735_689_599, 4_102_444_800, 13_574_563_200_u64] {
            let out = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d"]).arg(format!("@{seconds}")).output().unwrap();
            assert_eq!(format!("{}\n", rfc3339(seconds)), String::from_utf8(out.stdout).unwrap());
        }
    }
}
