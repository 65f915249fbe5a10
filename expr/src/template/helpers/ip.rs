//! IP addresses, versions 4 and 6.

use super::{Args, Done, Example, HelperDef, shown};
use crate::EvalError;
use millrace_sdk::{Type, Val};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const THEME: &str = "ip";

fn address(a: &Args<'_, '_>) -> Result<Option<IpAddr>, EvalError> {
    let Some(t) = a.some_text(0) else { return Ok(None) };
    t.trim_ascii().parse().map(Some).map_err(|_| a.fail("not-an-ip", format!("{} is no IP address", shown(a.val(0)))))
}

inventory::submit!(HelperDef::new(
    "is_ip",
    THEME,
    "is_ip TEXT",
    1..=1,
    Type::Boolean,
    "Whether it is an IP address.",
    &[Example("{{is_ip a}}", r#"{"a":"10.0.0.1"}"#, "true"), Example("{{is_ip a}}", r#"{"a":"10.0.0"}"#, "false")],
    is_ip
));
fn is_ip<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(Val::Bool(matches!(address(a), Ok(Some(_)))))
}

inventory::submit!(HelperDef::new(
    "ip_version",
    THEME,
    "ip_version IP",
    1..=1,
    Type::Bigint,
    "4 or 6.",
    &[Example("{{ip_version a}}", r#"{"a":"::1"}"#, "6")],
    ip_version
));
fn ip_version<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    Ok(address(a)?.map_or(Val::Null, |ip| Val::Int(if ip.is_ipv4() { 4 } else { 6 })))
}

inventory::submit!(HelperDef::new(
    "ip_to_int",
    THEME,
    "ip_to_int IP",
    1..=1,
    Type::Bigint,
    "A version 4 address as a number.",
    &[Example("{{ip_to_int a}}", r#"{"a":"10.0.0.1"}"#, "167772161")],
    ip_to_int
));
fn ip_to_int<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    match address(a)? {
        None => Ok(Val::Null),
        Some(IpAddr::V4(ip)) => Ok(Val::Int(u32::from(ip).into())),
        Some(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => Ok(Val::Int(u32::from(ip).into())),
            None => Err(a.fail("not-an-ip", format!("`{ip}` is no version 4 address"))),
        },
    }
}

inventory::submit!(HelperDef::new(
    "int_to_ip",
    THEME,
    "int_to_ip N",
    1..=1,
    Type::String,
    "The version 4 address of a number.",
    &[Example("{{int_to_ip a}}", r#"{"a":167772161}"#, "10.0.0.1")],
    int_to_ip
));
fn int_to_ip<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let Some(n) = a.int(0)? else { return Ok(Val::Null) };
    let n = u32::try_from(n).map_err(|_| a.fail("not-an-ip", format!("{n} is not between 0 and 4294967295")))?;
    // Writing to a String cannot fail.
    let _ = write!(out, "{}", Ipv4Addr::from(n));
    Ok(Val::Str(out))
}

inventory::submit!(HelperDef::new(
    "ip_is_private",
    THEME,
    "ip_is_private IP",
    1..=1,
    Type::Boolean,
    "Whether it is not routed on the internet: private, loopback or link-local (RFC 1918, 4193, 4291, 3927).",
    &[Example("{{ip_is_private a}}", r#"{"a":"192.168.1.9"}"#, "true"), Example("{{ip_is_private a}}", r#"{"a":"8.8.8.8"}"#, "false")],
    ip_is_private
));
fn ip_is_private<'a>(a: &Args<'a, '_>, _: &'a mut String) -> Done<'a> {
    let v4 = |ip: Ipv4Addr| ip.is_private() || ip.is_loopback() || ip.is_link_local();
    Ok(match address(a)? {
        None => Val::Null,
        Some(IpAddr::V4(ip)) => Val::Bool(v4(ip)),
        Some(IpAddr::V6(ip)) => Val::Bool(match ip.to_ipv4_mapped() {
            Some(ip) => v4(ip),
            None => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        }),
    })
}

inventory::submit!(HelperDef::new(
    "ip_prefix",
    THEME,
    "ip_prefix IP BITS",
    2..=2,
    Type::String,
    "The network of that many bits that the address is in.",
    &[
        Example("{{ip_prefix a 24}}", r#"{"a":"10.1.2.3"}"#, "10.1.2.0/24"),
        Example("{{ip_prefix a 32}}", r#"{"a":"2001:db8::1"}"#, "2001:db8::/32")
    ],
    ip_prefix
));
fn ip_prefix<'a>(a: &Args<'a, '_>, out: &'a mut String) -> Done<'a> {
    let (Some(ip), Some(bits)) = (address(a)?, a.int(1)?) else { return Ok(Val::Null) };
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let Some(bits) = u32::try_from(bits).ok().filter(|b| *b <= width) else {
        return Err(a.fail("wrong-argument", format!("{bits} bits are not between 0 and {width}")));
    };
    let network: IpAddr = match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into(),
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "{network}/{bits}");
    Ok(Val::Str(out))
}
