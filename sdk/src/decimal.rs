//! Exact decimals: 38 digits, checked arithmetic.

/// A decimal number: `mantissa * 10^-scale`, |mantissa| < 10^38, scale 0 to 38.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    pub mantissa: i128,
    pub scale: u8,
}
