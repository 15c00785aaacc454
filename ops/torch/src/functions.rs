//! The functions that torch-sys declares: each jumps to the address that [`symbol`] returned on the
//! first call.

#![expect(non_snake_case, reason = "the arguments have torch-sys's names")]

use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use torch_sys::{C_optimizer, C_scalar, C_tensor, CIValue, CModule_};

use crate::symbol;

#[expect(non_camel_case_types, reason = "C's name for it")]
type size_t = usize;

macro_rules! forward {
    (fn $name:ident($($arg:ident: $of:ty),* $(,)?) $(-> $result:ty)?) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $of),*) $(-> $result)? {
            static AT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let mut at = AT.load(Ordering::Acquire);
            if at.is_null() {
                at = symbol(concat!(stringify!($name), "\0"));
                AT.store(at, Ordering::Release);
            }
            // SAFETY: torch-sys declares this function with this signature, and its C++ half, built
            // from the same package, defines it so.
            unsafe {
                let body: unsafe extern "C" fn($($of),*) $(-> $result)? = std::mem::transmute(at);
                body($($arg),*)
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/declarations.rs"));
