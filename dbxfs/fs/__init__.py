"""The kernel's side: FUSE requests answered from the store; the only raiser of FUSEError."""
