//! Exact decimals: 38 digits, checked arithmetic.

use std::cmp::Ordering;
use std::fmt;

/// Digits that a decimal can have, before and after the point together.
pub const MAX_DIGITS: u8 = 38;

/// A decimal number: `mantissa * 10^-scale`, |mantissa| < 10^38, scale 0 to 38.
///
/// `==` compares the two fields (1.0 is not 1.00), [`compare`](Decimal::compare) the values. Whatever would need more than 38 digits is None.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    pub mantissa: i128,
    pub scale: u8,
}

const TENS: [i128; 39] = {
    let mut t = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        t[i] = t[i - 1] * 10;
        i += 1;
    }
    t
};

/// Powers of ten that are exact as doubles.
const POW: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];

impl Decimal {
    pub const ZERO: Decimal = Decimal { mantissa: 0, scale: 0 };

    #[inline]
    fn new(mantissa: i128, scale: u8) -> Option<Decimal> {
        (mantissa.unsigned_abs() < TENS[38] as u128 && scale <= MAX_DIGITS).then_some(Decimal { mantissa, scale })
    }

    /// Reads `-12.50`, `+3`, `.5`, `1.5e3`; the scale is the number of digits written after the point. Zeros at the end of the fraction go
    /// where 38 digits would not hold them.
    pub fn parse(text: &str) -> Option<Decimal> {
        let t = text.as_bytes();
        let (neg, mut p) = match t.first()? {
            b'-' => (true, 1),
            b'+' => (false, 1),
            _ => (false, 0),
        };
        let (mut m, mut digits, mut scale, mut dot, mut zeros) = (0i128, 0u32, 0i64, false, 0u32);
        while let Some(&c) = t.get(p) {
            match c {
                b'0' if dot && m.unsigned_abs() >= TENS[37] as u128 => {
                    // Beyond the 38th digit only zeros of the fraction can be left out.
                    digits += 1;
                    zeros += 1;
                }
                b'0'..=b'9' => {
                    if zeros > 0 {
                        return None;
                    }
                    digits += 1;
                    m = m.checked_mul(10)?.checked_add((c - b'0') as i128)?;
                    scale += dot as i64;
                }
                b'.' if !dot => dot = true,
                _ => break,
            }
            p += 1;
        }
        if digits == 0 {
            return None;
        }
        if let Some(b'e' | b'E') = t.get(p) {
            let e = std::str::from_utf8(&t[p + 1..]).ok()?;
            let d = e.strip_prefix(['-', '+']).unwrap_or(e);
            if d.is_empty() || !d.bytes().all(|c| c.is_ascii_digit()) {
                return None;
            }
            if m == 0 {
                return Decimal::new(0, scale.clamp(0, 38) as u8);
            }
            scale -= e.parse::<i32>().ok()? as i64;
            p = t.len();
        }
        if p != t.len() {
            return None;
        }
        while scale > MAX_DIGITS as i64 && m % 10 == 0 {
            m /= 10;
            scale -= 1;
        }
        while scale < 0 {
            m = m.checked_mul(10)?;
            scale += 1;
        }
        Decimal::new(if neg { -m } else { m }, u8::try_from(scale).ok()?)
    }

    /// Appends the number with exactly `scale` digits after the point: a valid JSON number.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        let digits = match u64::try_from(self.mantissa.unsigned_abs()) {
            Ok(small) => buffer.format(small),
            Err(_) => buffer.format(self.mantissa.unsigned_abs()),
        };
        let scale = self.scale as usize;
        if self.mantissa < 0 {
            out.push(b'-');
        }
        if scale == 0 {
            out.extend_from_slice(digits.as_bytes());
            return;
        }
        let whole = digits.len().saturating_sub(scale);
        if whole == 0 {
            out.push(b'0');
        }
        out.extend_from_slice(&digits.as_bytes()[..whole]);
        out.push(b'.');
        out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits.as_bytes()[whole..]);
    }

    /// Digits in all; 1 for zero.
    pub fn digits(&self) -> u8 {
        let m = self.mantissa.unsigned_abs();
        if m == 0 { 1 } else { m.ilog10() as u8 + 1 }
    }

    /// The value with `scale` digits after the point, rounded half away from zero.
    #[inline]
    pub fn rescale(self, scale: u8) -> Option<Decimal> {
        match scale.cmp(&self.scale) {
            Ordering::Equal => Some(self),
            Ordering::Less => match TENS.get((self.scale - scale) as usize) {
                Some(ten) => Decimal::new(divide_half_up(self.mantissa, *ten), scale),
                // Only damaged bytes have such a scale; what is left of 38 digits is nothing.
                None => Decimal::new(0, scale),
            },
            Ordering::Greater if scale > MAX_DIGITS => None,
            Ordering::Greater => Decimal::new(self.mantissa.checked_mul(TENS[(scale - self.scale) as usize])?, scale),
        }
    }

    /// The value as a `decimal(precision, scale)`: rounded half away from zero, None where the digits do not suffice.
    #[inline]
    pub fn fit(self, precision: u8, scale: u8) -> Option<Decimal> {
        self.rescale(scale).filter(|d| d.mantissa.unsigned_abs() < TENS[precision.min(MAX_DIGITS) as usize] as u128)
    }

    fn aligned(self, other: Decimal) -> Option<(i128, i128, u8)> {
        let scale = self.scale.max(other.scale);
        let up = |d: Decimal| d.mantissa.checked_mul(TENS[(scale - d.scale) as usize]);
        Some((up(self)?, up(other)?, scale))
    }

    #[inline]
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        let (a, b, scale) = self.aligned(other)?;
        Decimal::new(a.checked_add(b)?, scale)
    }

    #[inline]
    pub fn checked_sub(self, other: Decimal) -> Option<Decimal> {
        let (a, b, scale) = self.aligned(other)?;
        Decimal::new(a.checked_sub(b)?, scale)
    }

    #[inline]
    pub fn checked_neg(self) -> Option<Decimal> {
        Decimal::new(-self.mantissa, self.scale)
    }

    /// The exact product, rounded half away from zero to `scale` digits after the point.
    pub fn checked_mul(self, other: Decimal, scale: u8) -> Option<Decimal> {
        let from = self.scale + other.scale;
        if let Some(m) = self.mantissa.checked_mul(other.mantissa) {
            if from <= scale {
                return Decimal::new(m.checked_mul(*TENS.get((scale - from) as usize)?)?, scale);
            }
            if let Some(&by) = TENS.get((from - scale) as usize) {
                return Decimal::new(divide_half_up(m, by), scale);
            }
        }
        let negative = (self.mantissa < 0) != (other.mantissa < 0);
        let mut product = wide_mul(self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        if scale > from {
            // A product beyond an i128 does not fit after being made longer.
            return None;
        }
        // Two steps, as 10^76 is no u128; only the second may round.
        let mut down = (from - scale) as usize;
        let mut sticky = false;
        if down > 38 {
            let (q, r) = wide_div(product, TENS[38] as u128);
            (product, sticky, down) = (q, r != 0, down - 38);
        }
        let by = TENS[down] as u128;
        let (q, r) = wide_div(product, by);
        let up = if down == 0 { false } else { r > by - r || (r == by - r) || (sticky && r == by / 2 && by % 2 == 1) };
        narrow(q, up, negative, scale)
    }

    /// The quotient, rounded half away from zero to `scale` digits after the point. None for a zero divisor too.
    pub fn checked_div(self, other: Decimal, scale: u8) -> Option<Decimal> {
        if other.mantissa == 0 || scale > MAX_DIGITS {
            return None;
        }
        let negative = (self.mantissa < 0) != (other.mantissa < 0);
        let (a, b) = (self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        // a/10^sa : b/10^sb = q/10^scale, so q = a * 10^(scale + sb - sa) / b
        let shift = scale as i32 + other.scale as i32 - self.scale as i32;
        if shift < 0 {
            let b = wide_mul(b, TENS[(-shift) as usize] as u128);
            if b.0 != 0 {
                return (a == 0 || b.0 > 0).then_some(Decimal { mantissa: 0, scale });
            }
            let (q, r) = (a / b.1, a % b.1);
            return narrow((0, q), r >= b.1 - r && r > 0, negative, scale);
        }
        if let Some(by) = TENS.get(shift as usize)
            && let Some(n) = a.checked_mul(*by as u128)
        {
            let (q, r) = (n / b, n % b);
            return narrow((0, q), r >= b - r, negative, scale);
        }
        let mut n = wide_mul(a, TENS[(shift as usize).min(38)] as u128);
        if shift > 38 {
            // The product stays below 2^256 or the quotient has no place in 38 digits.
            let low = wide_mul(n.1, TENS[shift as usize - 38] as u128);
            let high = wide_mul(n.0, TENS[shift as usize - 38] as u128);
            if high.0 != 0 {
                return None;
            }
            n = (low.0.checked_add(high.1)?, low.1);
        }
        let (q, r) = wide_div(n, b);
        narrow(q, r >= b - r, negative, scale)
    }

    /// The remainder with the sign of the dividend. None for a zero divisor too.
    pub fn checked_rem(self, other: Decimal) -> Option<Decimal> {
        let (a, b, scale) = self.aligned(other)?;
        Decimal::new(a.checked_rem(b)?, scale)
    }

    pub fn abs(self) -> Decimal {
        Decimal { mantissa: self.mantissa.abs(), ..self }
    }

    /// Rounded half away from zero to `places` digits after the point; the scale becomes `places` if that is less. Negative places round
    /// before the point.
    pub fn round(self, places: i32) -> Option<Decimal> {
        if places >= self.scale as i32 {
            return Some(self);
        }
        if places >= 0 {
            return self.rescale(places as u8);
        }
        let whole = self.scale as i32 - places;
        let Some(&by) = TENS.get(whole as usize) else { return Some(Decimal::ZERO) };
        Decimal::new(divide_half_up(self.mantissa, by).checked_mul(TENS[(-places) as usize])?, 0)
    }

    /// Digits after the `places`th cut off.
    pub fn truncate(self, places: i32) -> Decimal {
        if places >= self.scale as i32 {
            return self;
        }
        let by = TENS.get((self.scale as i32).saturating_sub(places) as usize);
        match by {
            None => Decimal::ZERO,
            Some(by) if places >= 0 => Decimal { mantissa: self.mantissa / by, scale: places as u8 },
            Some(by) => Decimal { mantissa: self.mantissa / by * TENS[(-places) as usize], scale: 0 },
        }
    }

    pub fn floor(self) -> Decimal {
        Decimal { mantissa: self.mantissa.div_euclid(TENS[self.scale as usize]), scale: 0 }
    }

    pub fn ceil(self) -> Decimal {
        let by = TENS[self.scale as usize];
        Decimal { mantissa: self.mantissa.div_euclid(by) + i128::from(self.mantissa.rem_euclid(by) != 0), scale: 0 }
    }

    /// By value: 1.0 equals 1.00.
    pub fn compare(&self, other: &Decimal) -> Ordering {
        if self.scale == other.scale {
            return self.mantissa.cmp(&other.mantissa);
        }
        match self.aligned(*other) {
            Some((a, b, _)) => a.cmp(&b),
            None => {
                // One of them is too large to be aligned: whole parts decide, then fractions.
                let (a, b) = (self.floor().mantissa, other.floor().mantissa);
                let fraction = |d: &Decimal, whole: i128| (d.mantissa - whole * TENS[d.scale as usize]) * TENS[(38 - d.scale) as usize];
                a.cmp(&b).then_with(|| fraction(self, a).cmp(&fraction(other, b)))
            }
        }
    }

    /// The same value without zeros at the end of its fraction: equal values become equal structs.
    pub fn normalized(self) -> Decimal {
        let mut d = self;
        while d.scale > 0 && d.mantissa % 10 == 0 {
            d = Decimal { mantissa: d.mantissa / 10, scale: d.scale - 1 };
        }
        d
    }

    /// The integer, if the value is one and fits.
    pub fn to_i64(self) -> Option<i64> {
        let by = TENS[self.scale as usize];
        (self.mantissa % by == 0).then(|| i64::try_from(self.mantissa / by).ok()).flatten()
    }

    /// The nearest f64.
    #[inline]
    pub fn to_f64(self) -> f64 {
        if self.mantissa.unsigned_abs() < 1 << 53 && self.scale <= 22 {
            return self.mantissa as i64 as f64 / POW[self.scale as usize];
        }
        let mut text = vec![];
        self.write(&mut text);
        std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok()).unwrap_or(f64::NAN)
    }

    /// The decimal that the shortest text of `f` denotes: 0.1 is exactly 0.1. None for what is not finite or too long.
    pub fn from_f64(f: f64) -> Option<Decimal> {
        if !f.is_finite() {
            return None;
        }
        let d = Decimal::parse(ryu::Buffer::new().format_finite(f)).or_else(|| {
            // More than 38 digits after the point: what is left of them.
            (f.abs() < 1.0).then(|| Decimal::parse(&format!("{f:.38}"))).flatten()
        })?;
        Some(if d.scale > 0 { d.normalized() } else { d })
    }
}

impl From<i64> for Decimal {
    #[inline]
    fn from(i: i64) -> Decimal {
        Decimal { mantissa: i as i128, scale: 0 }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(40);
        self.write(&mut text);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// `n / by`, rounded half away from zero; `by` is a power of ten.
#[inline]
fn divide_half_up(n: i128, by: i128) -> i128 {
    if let (Ok(n), Ok(by)) = (i64::try_from(n), i64::try_from(by)) {
        let (q, r) = (n / by, n % by);
        return (q + if by > 1 && r.unsigned_abs() >= (by / 2) as u64 { n.signum() } else { 0 }) as i128;
    }
    let (q, r) = (n / by, n % by);
    q + if by > 1 && r.abs() >= by / 2 { n.signum() } else { 0 }
}

/// The 256-bit product as (high, low).
fn wide_mul(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (p00, p01, p10, p11) = (a0 * b0, a0 * b1, a1 * b0, a1 * b1);
    let middle = (p00 >> 64) + (p01 & LOW) + (p10 & LOW);
    (p11 + (p01 >> 64) + (p10 >> 64) + (middle >> 64), (p00 & LOW) | (middle << 64))
}

/// Quotient and remainder of a 256-bit number by shift and subtract. `by` is not zero and below 2^127.
fn wide_div((high, low): (u128, u128), by: u128) -> ((u128, u128), u128) {
    let (q_high, mut r) = (high / by, high % by);
    let mut q_low = 0u128;
    for i in (0..128).rev() {
        r = (r << 1) | ((low >> i) & 1);
        q_low <<= 1;
        if r >= by {
            r -= by;
            q_low |= 1;
        }
    }
    ((q_high, q_low), r)
}

fn narrow((high, low): (u128, u128), up: bool, negative: bool, scale: u8) -> Option<Decimal> {
    if high != 0 {
        return None;
    }
    let m = i128::try_from(low).ok()?.checked_add(i128::from(up))?;
    Decimal::new(if negative { -m } else { m }, scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a decimal"))
    }

    #[test]
    fn text_to_decimal_and_back() {
        for (text, want) in [
            ("0", "0"),
            ("-0", "0"),
            ("12.50", "12.50"),
            ("-0.05", "-0.05"),
            ("+3", "3"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1.5e-3", "0.0015"),
            ("1.5E+1", "15"),
            ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
            ("0.00000000000000000000000000000000000001", "0.00000000000000000000000000000000000001"),
            ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
            ("99999999999999999999999999999999999999.000", "99999999999999999999999999999999999999"),
            ("0e9999", "0"),
        ] {
            assert_eq!(d(text).to_string(), want, "{text}");
        }
        for bad in [
            "",
            "-",
            ".",
            "1.2.3",
            "1e",
            "1e+",
            "e5",
            "abc",
            "1 ",
            "0x1",
            "NaN",
            "1e39",
            "1e99999999999",
            "1e-9999",
            "100000000000000000000000000000000000000",
            "9999999999999999999999999999999999999999999",
            "99999999999999999999999999999999999999.5",
        ] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rounding_is_half_away_from_zero() {
        for (text, scale, want) in [
            ("2.5", 0, "3"),
            ("-2.5", 0, "-3"),
            ("2.49", 0, "2"),
            ("2.45", 1, "2.5"),
            ("-0.004", 2, "0.00"),
            ("9.99", 1, "10.0"),
            ("1", 2, "1.00"),
        ] {
            assert_eq!(d(text).rescale(scale).unwrap().to_string(), want, "{text} to {scale}");
        }
        assert_eq!(d("1234").round(-2).unwrap().to_string(), "1200");
        assert_eq!(d("1250.5").round(-2).unwrap().to_string(), "1300");
        assert_eq!(d("1").round(-40).unwrap().to_string(), "0");
        assert_eq!(d("-12.78").truncate(1).to_string(), "-12.7");
        assert_eq!(d("-12.78").truncate(-1).to_string(), "-10");
        assert_eq!((d("-1.5").floor().to_string(), d("-1.5").ceil().to_string()), ("-2".into(), "-1".into()));
        assert_eq!((d("1.5").floor().to_string(), d("1.5").ceil().to_string()), ("1".into(), "2".into()));
        assert_eq!(d("123.456").fit(5, 2).unwrap().to_string(), "123.46");
        assert_eq!(d("1234.5").fit(5, 2), None);
    }

    #[test]
    fn arithmetic() {
        assert_eq!(d("0.1").checked_add(d("0.2")).unwrap().to_string(), "0.3");
        assert_eq!(d("1.10").checked_sub(d("2")).unwrap().to_string(), "-0.90");
        assert_eq!(d("1.5").checked_mul(d("-2.25"), 3).unwrap().to_string(), "-3.375");
        assert_eq!(d("1.5").checked_mul(d("-2.25"), 1).unwrap().to_string(), "-3.4");
        assert_eq!(d("10").checked_div(d("3"), 6).unwrap().to_string(), "3.333333");
        assert_eq!(d("-2").checked_div(d("3"), 2).unwrap().to_string(), "-0.67");
        assert_eq!(d("1").checked_div(d("0.00"), 2), None);
        assert_eq!(d("-7.5").checked_rem(d("2")).unwrap().to_string(), "-1.5");
        assert_eq!(d("1").checked_rem(d("0")), None);
        let big = d("12345678901234567890123456789012345678");
        assert_eq!(big.checked_mul(d("10"), 0), None);
        assert_eq!(big.checked_add(d("99999999999999999999999999999999999999")), None);
        assert_eq!(big.checked_mul(d("0.5"), 0).unwrap().to_string(), "6172839450617283945061728394506172839");
        let tiny = d("0.00000000000000000001");
        assert_eq!(tiny.checked_mul(tiny, 38).unwrap().to_string(), "0.00000000000000000000000000000000000000");
        assert_eq!(big.checked_div(big, 37).unwrap().to_string(), "1.0000000000000000000000000000000000000");
    }

    #[test]
    fn numbers() {
        assert_eq!((d("12.0").to_i64(), d("12.5").to_i64(), d("9223372036854775808").to_i64()), (Some(12), None, None));
        assert_eq!(d("0.1").to_f64(), 0.1);
        assert_eq!(d("12345678901234567890123.5").to_f64(), 12345678901234567890123.5);
        assert_eq!(Decimal::from_f64(0.1).unwrap().to_string(), "0.1");
        assert_eq!(Decimal::from_f64(12.0).unwrap().to_string(), "12");
        assert_eq!(Decimal::from_f64(1e20).unwrap().to_string(), "100000000000000000000");
        assert_eq!(Decimal::from_f64(1e-300).unwrap().to_string(), "0");
        assert_eq!((Decimal::from_f64(f64::NAN), Decimal::from_f64(1e300)), (None, None));
    }

    /// Schoolbook multiplication on decimal digits: the independent definition.
    fn digits_mul(a: u128, b: u128) -> Vec<u8> {
        let (a, b): (Vec<u8>, Vec<u8>) =
            (a.to_string().bytes().rev().map(|c| c - 48).collect(), b.to_string().bytes().rev().map(|c| c - 48).collect());
        let mut out = vec![0u32; a.len() + b.len() + 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                out[i + j] += *x as u32 * *y as u32;
            }
        }
        for i in 0..out.len() - 1 {
            out[i + 1] += out[i] / 10;
            out[i] %= 10;
        }
        out.iter().map(|d| *d as u8).collect()
    }

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        (prop_oneof![-TENS[38] + 1..TENS[38], -1_000_000i128..1_000_000, Just(0)], 0u8..=38)
            .prop_map(|(mantissa, scale)| Decimal { mantissa, scale })
    }

    proptest! {
        #[test]
        fn text_round_trips(a in any_decimal()) {
            prop_assert_eq!(Decimal::parse(&a.to_string()), Some(a));
            prop_assert!(crate::json::is_number(a.to_string().as_bytes()));
        }

        #[test]
        fn parse_never_panics(t in "[-+0-9.eE]{0,60}") {
            if let Some(x) = Decimal::parse(&t) {
                prop_assert!(x.mantissa.abs() < TENS[38] && x.scale <= 38);
            }
        }

        #[test]
        fn products_are_those_of_school(a in any_decimal(), b in any_decimal(), scale in 0u8..=38) {
            // The product has a.scale + b.scale digits after the point: cut to `scale`, look at the next one.
            let mut p = digits_mul(a.mantissa.unsigned_abs(), b.mantissa.unsigned_abs());
            let from = a.scale as usize + b.scale as usize;
            let mut up = false;
            if from >= scale as usize {
                let cut = (from - scale as usize).min(p.len());
                up = from - scale as usize <= p.len() && cut > 0 && p[cut - 1] >= 5;
                p.drain(..cut);
            } else {
                p.splice(0..0, std::iter::repeat_n(0, scale as usize - from));
            }
            while p.last() == Some(&0) { p.pop(); }
            let want = if p.len() > 38 { None } else {
                let m = p.iter().rev().fold(0i128, |m, d| m * 10 + *d as i128) + i128::from(up);
                (m < TENS[38]).then_some(if (a.mantissa < 0) != (b.mantissa < 0) { -m } else { m })
            };
            prop_assert_eq!(a.checked_mul(b, scale).map(|d| d.mantissa), want);
        }

        #[test]
        fn quotients_times_divisor_come_back(a in any_decimal(), b in any_decimal(), scale in 0u8..=38) {
            if let Some(q) = a.checked_div(b, scale) {
                // |a - q*b| <= |b| * 10^-scale / 2, in f64 for a rough look and exactly where it can be.
                let exact = q.checked_mul(b, 38).and_then(|p| a.rescale(38)?.checked_sub(p));
                if let (Some(rest), Some(half)) = (exact, Decimal { mantissa: 5, scale: scale + 1 }.checked_mul(b.abs(), 38).filter(|_| scale < 38)) {
                    prop_assert!(rest.mantissa.abs() <= half.mantissa + 1, "{} / {} = {}", a, b, q);
                }
                let f = a.to_f64() / b.to_f64();
                prop_assert!((q.to_f64() - f).abs() <= f.abs() * 1e-12 + 10f64.powi(-(scale as i32)), "{} / {} = {} ~ {}", a, b, q, f);
            }
        }

        #[test]
        fn sums_undo(a in any_decimal(), b in any_decimal()) {
            if let Some(s) = a.checked_add(b) {
                // At the greater of the two scales `a` itself may have too many digits: 10^37 of scale 27 - 10^-28 + 10^-28.
                let back = s.checked_sub(b);
                prop_assert!(back.is_none_or(|x| x.compare(&a) == Ordering::Equal));
                prop_assert!(back.is_some() || a.scale < b.scale);
                prop_assert_eq!(b.checked_add(a), Some(s));
            }
        }

        #[test]
        fn order_is_that_of_differences(a in any_decimal(), b in any_decimal()) {
            if let Some(x) = a.checked_sub(b) {
                prop_assert_eq!(a.compare(&b), x.mantissa.cmp(&0));
            }
            prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
        }

        #[test]
        fn rounding_is_near(a in any_decimal(), places in -45i32..45) {
            if let Some(r) = a.round(places) {
                prop_assert!(r.scale as i32 <= places.max(0).max(0) || r == a);
            }
            prop_assert!(a.truncate(places).mantissa.abs() <= a.mantissa.abs());
            prop_assert!(a.floor().compare(&a) != Ordering::Greater);
            prop_assert!(a.ceil().compare(&a) != Ordering::Less);
        }
    }

    #[test]
    fn a_scale_that_no_decimal_has_leaves_nothing() {
        let damaged = Decimal { mantissa: 5, scale: 77 };
        assert_eq!(damaged.rescale(0).map(|d| d.mantissa), Some(0));
    }
}
