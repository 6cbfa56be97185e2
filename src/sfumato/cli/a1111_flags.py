"""Flags of A1111's command line that change nothing here, so that a COMMANDLINE_ARGS made for it can stay as it is."""

from __future__ import annotations

from collections.abc import Mapping

ATTENTION = "has no effect: the fastest exact attention of this device is always used; with little memory, use --lowvram."
ALWAYS = "has no effect: it is always so."

# Flags that chose between implementations, and what is to be said about each.
NO_EFFECT: Mapping[str, str] = {
    "--xformers": ATTENTION,
    "--force-enable-xformers": ATTENTION,
    "--xformers-flash-attention": ATTENTION,
    "--opt-split-attention": ATTENTION,
    "--opt-split-attention-invokeai": ATTENTION,
    "--opt-split-attention-v1": ATTENTION,
    "--opt-sub-quad-attention": ATTENTION,
    "--opt-sdp-attention": ATTENTION,
    "--opt-sdp-no-mem-attention": ATTENTION,
    "--disable-opt-split-attention": ATTENTION,
    "--opt-channelslast": ALWAYS,
    "--upcast-sampling": ALWAYS,
    "--no-half-vae": "has no effect: a VAE that overflows is repeated in fp32 by itself.",
    "--disable-nan-check": "has no effect: a picture that is not a number is always an error.",
    "--disable-safe-unpickle": "has no effect: pickles are never executed.",
}

# fmt: off
# Flags about the server and its installation.
SERVER_FLAGS = (
    "--listen", "--share", "--api", "--nowebui", "--autolaunch", "--enable-insecure-extension-access", "--api-log",
    "--no-hashing", "--skip-torch-cuda-test", "--update-check", "--update-all-extensions", "--reinstall-xformers",
    "--no-download-sd-model", "--do-not-download-clip", "--lowram", "--allow-code", "--skip-version-check",
    "--gradio-debug", "--test-server", "--hide-ui-dir-config", "--freeze-settings",
    "--disable-tls-verify", "--no-prompt-history", "--no-gradio-queue", "--gradio-queue", "--disable-all-extensions",
    "--disable-extra-extensions", "--administrator", "--ui-debug-mode", "--log-startup", "--add-stop-route",
    "--no-progressbar-hiding", "--always-batch-cond-uncond", "--unload-gfpgan", "--deepdanbooru", "--use-ipex",
    "--disable-model-loading-ram-optimization", "--show-negative-prompt", "--use-textbox-seed", "--api-server-stop",
    "--enable-console-prompts", "--skip-load-model-at-start", "--unix-filenames-sanitization", "--no-tests",
)
# The same, with a value.
SERVER_VALUES = (
    "--port", "--server-name", "--gradio-auth", "--gradio-auth-path", "--api-auth", "--theme", "--subpath",
    "--cors-allow-origins", "--cors-allow-origins-regex", "--tls-keyfile", "--tls-certfile", "--timeout-keep-alive",
    "--ngrok", "--ui-config-file", "--ui-settings-file", "--loglevel", "--gradio-allowed-path", "--config",
    "--embeddings-dir", "--hypernetwork-dir", "--lora-dir", "--ckpt-dir", "--vae-dir", "--styles-file",
    "--esrgan-models-path", "--realesrgan-models-path", "--gfpgan-models-path", "--codeformer-models-path",
    "--max-batch-count", "--gfpgan-dir", "--gfpgan-model", "--textual-inversion-templates-dir", "--localizations-dir",
    "--ngrok-region", "--ngrok-options", "--bsrgan-models-path", "--dat-models-path", "--clip-models-path",
    "--sub-quad-q-chunk-size", "--sub-quad-kv-chunk-size", "--sub-quad-chunk-threshold", "--gradio-img2img-tool",
    "--gradio-inpaint-tool", "--freeze-settings-in-sections", "--freeze-specific-settings", "--filenames-max-length",
)
# fmt: on
