"""Write a bundle of the published size and layout with random weights: about 10.7 GB in half precision.

    python benchmarks/full_size_bundle.py FOLDER

Speed and memory depend on sizes, not on what a model has learnt, so this measures the real thing where the published
weights cannot be had: SDXL's UNet, VAE and text encoders, IdentityNet, an adapter of the published 20 heads × 64, read
by the loader that reads the published files. Needs a GPU, to draw 4.6 thousand million random numbers in seconds.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from instantid.random_bundle import write_random_bundle
from ip_adapter.checkpoint import write_checkpoint
from ip_adapter.layers import cross_attention
from ip_adapter.resampler import Resampler

DENOISER = {
    "in_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
UP_BLOCKS = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.13025,
    "sample_size": 1024,
    "force_upcast": True,  # as SDXL's own: half precision overflows in it
}
TEXT = {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 2}
TEXT_1 = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TEXT_2 = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
ZERO_CONVOLUTION_SPREAD = 0.02  # a new ControlNet says nothing; a trained one does
TOKEN_DIM = 2048
RESAMPLER = {"dim": 1280, "depth": 4, "heads": 20, "dim_head": 64, "output_dim": TOKEN_DIM}


@torch.no_grad()
def write_full_size_bundle(folder: Path, device: str = "cuda") -> Path:
    """Write the bundle and return its folder. Tokenizers, scheduler and face models are the small random bundle's."""
    folder = write_random_bundle(folder, native_size=1024)
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(sample_size=128, out_channels=4, up_block_types=UP_BLOCKS, **DENOISER).half()
        unet.save_pretrained(folder / "base" / "unet", max_shard_size="20GB")
        layers = {}
        for index, attn in cross_attention(unet).values():
            for part in ("to_k_ip", "to_v_ip"):
                width = attn.to_q.out_features
                layers[f"{index}.{part}.weight"] = torch.randn(width, TOKEN_DIM).half() / TOKEN_DIM**0.5
        del unet
        write_checkpoint(folder / "ip-adapter.bin", Resampler(**RESAMPLER).half().state_dict(), layers)
        del layers
        identitynet = ControlNetModel(conditioning_embedding_out_channels=(16, 32, 96, 256), **DENOISER)
        for net in (*identitynet.controlnet_down_blocks, identitynet.controlnet_mid_block):
            torch.nn.init.normal_(net.weight, std=ZERO_CONVOLUTION_SPREAD)
        torch.nn.init.normal_(identitynet.controlnet_cond_embedding.conv_out.weight, std=ZERO_CONVOLUTION_SPREAD)
        identitynet.half().save_pretrained(folder / "ControlNetModel", max_shard_size="20GB")
        del identitynet
        AutoencoderKL(**VAE).half().save_pretrained(folder / "base" / "vae")
        text = CLIPTextConfig(**TEXT, **TEXT_1, projection_dim=768, hidden_act="quick_gelu")
        CLIPTextModel(text).half().save_pretrained(folder / "base" / "text_encoder")
        text = CLIPTextConfig(**TEXT, **TEXT_2, projection_dim=1280, hidden_act="gelu")
        CLIPTextModelWithProjection(text).half().save_pretrained(folder / "base" / "text_encoder_2")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(write_full_size_bundle(parser.parse_args().folder))
