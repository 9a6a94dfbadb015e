//! A CUDA kernel's name, from the symbol of the host stub that launches it.

/// What a kernel is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelName {
    /// Demangled whole, without its parameters: the `kernel` argument of a launch.
    pub full: String,
    /// Without namespaces and template arguments: the name of a slice.
    pub short: String,
}

/// What nvcc's host stubs are called, before the kernel's own mangled name.
const STUB: &str = "__device_stub_";
/// Names longer than this are cut in a slice's title.
const SHORT: usize = 60;

/// Names a kernel by the mangled symbol of its stub, or by its own.
pub(crate) fn name(symbol: &str) -> KernelName {
    let mangled = inner(symbol);
    let full = demangle(&mangled);
    let short = shorten(&full);
    KernelName { full, short }
}

/// Whether a symbol is a host stub's.
pub(crate) fn is_stub(symbol: &str) -> bool {
    symbol.contains(STUB)
}

/// The kernel's mangled name inside its stub's: `_ZL26__device_stub__Z5scalePfiPfi` holds `_Z5scalePfi`.
fn inner(symbol: &str) -> String {
    let Some(at) = symbol.find(STUB) else { return symbol.to_owned() };
    let before = symbol[..at].trim_end_matches(|c: char| c.is_ascii_digit());
    let length: Option<usize> = symbol[before.len()..at].parse().ok();
    let rest = &symbol[at + STUB.len()..];
    // The length tells where the kernel's name ends and the stub's own parameters begin.
    let kept = length.and_then(|l| l.checked_sub(STUB.len())).and_then(|l| rest.get(..l)).unwrap_or(rest);
    // An `extern "C"` kernel `foo` gives `__device_stub__foo`.
    match kept.strip_prefix("_Z") {
        Some(_) => kept.to_owned(),
        None => kept.strip_prefix('_').unwrap_or(kept).to_owned(),
    }
}

fn demangle(mangled: &str) -> String {
    let symbol = cpp_demangle::Symbol::new(mangled);
    let options = cpp_demangle::DemangleOptions::new().no_params().no_return_type();
    symbol.ok().and_then(|s| s.demangle_with_options(&options).ok()).unwrap_or_else(|| mangled.to_owned())
}

/// `void at::native::vectorized_elementwise_kernel<4, …>` becomes `vectorized_elementwise_kernel`;
/// the first template argument that names a functor is kept: it says what is computed.
fn shorten(full: &str) -> String {
    let plain = |text: &str| -> String {
        let mut depth = 0usize;
        let kept: String = text
            .chars()
            .filter(|c| {
                depth += usize::from(matches!(c, '<' | '('));
                let outside = depth == 0;
                depth -= usize::from(matches!(c, '>' | ')') && depth > 0);
                outside
            })
            .collect();
        kept.rsplit("::").find(|part| !part.trim().is_empty()).unwrap_or(&kept).trim().to_owned()
    };
    let base = plain(full);
    let base = base.rsplit(' ').next().unwrap_or(&base).to_owned();
    let functor = full
        .split(['<', '>', ',', ' ', '(', ')'])
        .map(|part| part.rsplit("::").next().unwrap_or(part))
        .find(|part| part.to_ascii_lowercase().contains("functor") && *part != base);
    let mut short = match functor {
        Some(functor) => format!("{base}<{functor}>"),
        None => base,
    };
    if short.is_empty() {
        short = full.to_owned();
    }
    if let Some((cut, _)) = short.char_indices().nth(SHORT) {
        short.truncate(cut);
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(symbol: &str) -> (String, String) {
        let name = name(symbol);
        (name.full, name.short)
    }

    #[test]
    fn a_stub_tells_its_kernel() {
        let both = |s: &str| (s.to_owned(), s.to_owned());
        assert_eq!(of("_ZL25__device_stub__Z5scalePfiPfi"), both("scale"));
        assert_eq!(of("_Z25__device_stub__Z5scalePfiPfi"), both("scale"));
        assert_eq!(of("_Z5scalePfi"), both("scale"));
        assert_eq!(of("__device_stub__saxpy"), both("saxpy"));
        assert_eq!(of("saxpy"), both("saxpy"));
        assert!(is_stub("_ZL25__device_stub__Z5scalePfiPfi") && !is_stub("_Z5scalePfi"));
    }

    #[test]
    fn templates_are_shortened_to_what_tells() {
        let symbol = "_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_15CUDAFunctor_addIfEEEEviT0_";
        let (full, short) = of(symbol);
        assert!(full.contains("at::native::vectorized_elementwise_kernel<4"), "{full}");
        assert_eq!(short, "vectorized_elementwise_kernel<CUDAFunctor_add>");
    }

    #[test]
    fn a_name_that_cannot_be_read_stays_as_it_is() {
        assert_eq!(of("_Zgarbage"), ("_Zgarbage".to_owned(), "_Zgarbage".to_owned()));
        assert_eq!(of("_Z99__device_stub__Zx").0, "_Zx");
        assert_eq!(of("").0, "");
        assert!(of(&"x".repeat(500)).1.chars().count() <= SHORT + 1);
    }
}
