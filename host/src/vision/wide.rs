//! Runs a piece of arithmetic compiled for the processor's wider vectors, where it has them.
//! What goes in: a closure whose body is inlined. What comes out: its result, the same bits either way.

/// Calls `work`, compiled a second time for processors that have AVX2 and shifts that set no flags (BMI). Only what is
/// inlined into `work` gains.
#[inline]
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(test)]
    if NARROW.get() {
        return work();
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
    {
        #[expect(unsafe_code, reason = "there is no safe way to call a function compiled for other processors")]
        // SAFETY: `with_avx2` asks for nothing but AVX2, BMI1 and BMI2, and these were just found.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(test)]
thread_local! {
    static NARROW: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Calls `work` as on a processor without any of it.
#[cfg(test)]
pub(super) fn narrowly<R>(work: impl FnOnce() -> R) -> R {
    NARROW.set(true);
    let result = work();
    NARROW.set(false);
    result
}
