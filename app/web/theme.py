"""Colours and fonts of the page. page.css says the rest."""

import gradio as gr

FONTS = ["system-ui", "sans-serif"]
"""Fonts of the system. Other fonts would have to be fetched."""


def build_theme() -> gr.themes.Base:
    """Return a theme with calm colours and the fonts of the system."""
    return gr.themes.Soft(
        primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=FONTS
    ).set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_border_width="1px",
        block_border_width_dark="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        # White fields on white would have no visible edge.
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_shadow="none",
        checkbox_border_color="*neutral_400",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_border_width="1px",
        checkbox_label_border_width_dark="1px",
        checkbox_label_border_color_dark="*neutral_600",
        checkbox_label_shadow="none",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_cancel_border_color="*neutral_300",
        button_cancel_border_color_dark="*neutral_600",
        button_cancel_background_fill_dark="*button_secondary_background_fill",
    )
